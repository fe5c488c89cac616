import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from histo.export.index import write_index
from histo.export.outputs import MAPPED, REPORT
from histo.results import RESEARCH_USE

XSS = "<img src=x onerror=alert(1)>"


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


FILES = REPORT | MAPPED


def _page(results, tmp_path, files=("report.html", "overlay.png")):
    results = [replace(result, files=FILES) for result in results]
    for result in results:
        folder = tmp_path / "slides" / result.slide_id
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
    write_index(results, tmp_path / "index.html", "Archive 2024")
    return _Page((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_review_and_failed_come_first_and_are_counted(make, tmp_path):
    results = [make(status=s, slide_id=f"slide-{s}").result for s in ("done", "refused", "failed", "review")]
    page = _page(results, tmp_path)
    assert re.findall(r"slide-(\w+)", page.text) == ["review", "failed", "refused", "done"]
    words = " ".join(page.text.split())
    assert "1 review 1 failed 1 refused 1 done" in re.sub(r"(\d)(\w)", r"\1 \2", words)
    for text in (RESEARCH_USE, "Archive 2024", results[0].model.name, "records no scale", "0123456789ab"):
        assert text in page.text


def test_names_are_escaped_and_links_lead_to_the_files(make, tmp_path):
    results = [make(slide_id=f"{XSS}.v1").result, make(slide_id="50% #1?").result, make(slide_id="b\udc80").result]
    page = _page(results, tmp_path)
    assert XSS in page.text
    assert not [a for _, a in page.tags if "onerror" in a]
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert len(links) == 6
    for link in links:
        assert (tmp_path / unquote(link, errors="surrogateescape")).is_file()


def test_slides_of_the_same_name_are_told_apart_by_their_folder(make, tmp_path):
    result = make().result
    screened = replace(result.provenance, settings={"mode": "screen"})
    several = [replace(result, path=f"/archive/{year}/a.svs", slide_id=f"a-{year}") for year in (2023, 2024)]
    write_index([*several, replace(result, path="/archive/b.svs", provenance=screened)], tmp_path / "index.html", "x")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count('<div class="why">2023/a.svs</div>') == text.count('<div class="why">2024/a.svs</div>') == 1
    assert text.count("screen mode") == 1
    assert '<div class="why">archive</div>' not in text


def test_folders_of_the_same_name_are_told_apart_by_where_they_part(make, tmp_path):
    """Regression: slides of `a/HE` and `b/HE` were both said to lie in HE."""
    result = make().result
    several = [replace(result, path=f"/archive/{who}/HE/1.svs", slide_id=f"1-{who}") for who in ("a", "b")]
    text = _page(several, tmp_path).text
    assert "a/HE" in text
    assert "b/HE" in text


def test_slides_whose_ids_collide_are_told_apart_by_their_files(make, tmp_path):
    """Regression: names that differ by case, blank or suffix alone had the same folder beside their ids, or nothing."""
    result = make().result
    files = {"s7": "s7.svs", "s7-1": "S7.svs", "s1": "s1.svs", "s1-2": "s1.tif", "12_34": "12 34.svs", "b": "b.svs"}
    several = [replace(result, path=f"/archive/HE/{file}", slide_id=slide_id) for slide_id, file in files.items()]
    text = _page(several, tmp_path).text
    assert all(file in text for file in files.values() if file != "b.svs")
    assert "b.svs" not in text


def test_the_thumbnail_is_shown_where_there_is_one(make, tmp_path):
    """Regression: whole overlays were loaded lazily, and of a printed worklist most pictures were missing."""
    page = _page([make().result], tmp_path, files=("report.html", "overlay.png", "thumbnail.jpg"))
    (picture,) = (a for tag, a in page.tags if tag == "img")
    assert (picture["src"].rsplit("/", 1)[1], picture.get("loading")) == ("thumbnail.jpg", None)


def test_only_files_that_exist_are_linked(make, tmp_path):
    page = _page([make(status="failed").result], tmp_path, files=())
    assert not [tag for tag, _ in page.tags if tag in {"a", "img"}]


@pytest.mark.parametrize("count", [0, 1])
def test_few_slides(make, tmp_path, count):
    page = _page([make().result] * count, tmp_path)
    assert f"{count} slide" in page.text
    assert RESEARCH_USE in page.text


def test_the_only_script_is_the_one_that_the_policy_allows(make, tmp_path):
    page = _page([make().result], tmp_path)
    text = (tmp_path / "index.html").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in scripts[0]


def test_the_same_results_give_the_same_bytes(make, tmp_path):
    results = [make().result]
    pages = []
    for _ in range(2):
        write_index(results, tmp_path / "index.html", "t")
        pages.append((tmp_path / "index.html").read_bytes())
    assert pages[0] == pages[1]
