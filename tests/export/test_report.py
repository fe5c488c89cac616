import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from histo.export.layers import MOST_MARKS
from histo.export.report import MOST_LESIONS, write_report
from histo.results import RESEARCH_USE, Reason

XSS = "<img src=x onerror=alert(1)>"


class _Page(HTMLParser):
    """Collects tags, their attributes and the text, and checks that tags close."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"img", "meta", "br", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _page(prediction, tmp_path):
    path = tmp_path / "report.html"
    write_report(prediction, path)
    return _Page(path.read_text(encoding="utf-8"))


def test_the_report_says_what_a_pathologist_asks(prediction, tmp_path):
    result = prediction.result
    page = _page(prediction, tmp_path)
    text = " ".join(page.text.split())
    for words in (
        RESEARCH_USE,
        result.slide_id,
        "Heterotopic ossification",
        "Also found: calcification.",
        "Not excluded: calcinosis cutis.",
        result.model.calibration,
        result.model.intended_use,
        result.model.name,
        result.model.digest,
        result.sha256,
        result.provenance.settings_digest,
        "recorded in the file",
        f"{result.areas.tissue_mm2:.3f}",
        f"{result.areas.unreadable_mm2:.3f}",
        f"{result.burdens[0].area_mm2:.3f}",
        f"{100 * result.burdens[0].area_mm2 / result.areas.scored_mm2:.1f} %",
    ):
        assert words in text
    for lesion in result.lesions:
        assert f"{lesion.area_mm2:.3f}" in text
    for words in ("75.0 %", "25.0 %", "0.42"):
        assert words in text
    assert "nan" not in text.lower().split()


def test_the_report_is_one_file_without_script(prediction, tmp_path):
    page = _page(prediction, tmp_path)
    links = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    assert len(links) >= 2 + 2 * len(prediction.evidence)
    assert all(link.startswith("data:image/") for link in links)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "report.html").read_text())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("review", ["Review", "below 0.8", "The model suggests Heterotopic ossification"]),
        ("refused", ["Refused: no verdict", "records no scale", "run the slide again"]),
        ("failed", ["Failed: no verdict", "ends too early", "Follow the advice above"]),
    ],
)
def test_other_statuses_give_the_reason_and_what_to_do(make, tmp_path, status, words):
    text = " ".join(_page(make(status=status), tmp_path).text.split())
    assert all(w in text for w in [*words, RESEARCH_USE])


def test_names_are_escaped(make, tmp_path):
    prediction = make(slide_id=XSS)
    lesions = tuple(replace(one, name=XSS) for one in prediction.result.lesions)
    page = _page(replace(prediction, result=replace(prediction.result, lesions=lesions, path=XSS)), tmp_path)
    assert XSS in page.text
    assert not [a for _, a in page.tags if "onerror" in a]


def test_file_names_that_are_not_utf8_are_shown_with_a_mark(make, tmp_path):
    assert "a\ufffdb" in _page(make(slide_id="a\udc80b"), tmp_path).text


def test_no_finding_takes_more_than_all_of_the_tissue(prediction, tmp_path):
    """Regression: outlines follow whole cells, tissue only its share of them, and a fragment of bone took 113 %."""
    burdens = tuple(replace(b, area_mm2=2 * prediction.result.areas.scored_mm2) for b in prediction.result.burdens)
    text = _page(replace(prediction, result=replace(prediction.result, burdens=burdens)), tmp_path).text
    assert "100.0 %" in text
    assert "200.0 %" not in text


def test_a_share_is_that_of_what_was_scored_and_screened(prediction, tmp_path):
    burden = replace(prediction.result.burdens[0], area_mm2=1.0)
    areas = replace(prediction.result.areas, scored_mm2=1.5, screened_mm2=2.5)
    result = replace(prediction.result, burdens=(burden,), areas=areas)
    text = _page(replace(prediction, result=result), tmp_path).text
    assert "Share of scored and screened tissue" in text
    assert "25.0 %" in text
    assert "Share of scored tissue" in _page(prediction, tmp_path).text


def test_the_longest_lesions_are_listed_and_the_others_counted(prediction, tmp_path):
    lesion = prediction.result.lesions[0]
    many = tuple(replace(lesion, lesion_id=str(i), name=f"bone {i}", area_mm2=i / 1000) for i in range(1, 61))
    text = _page(replace(prediction, result=replace(prediction.result, lesions=many), evidence=()), tmp_path).text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "</span>Bone 60</td>" in html
    assert "</span>Bone 10</td>" not in html
    assert f"{60 - MOST_LESIONS} more findings are not listed" in text


def test_every_lesion_that_the_picture_marks_has_its_row(prediction, tmp_path):
    """Regression: the picture marked C1 to C20 of many lesions, and the table listed the larger share, bone, alone."""
    lesion = prediction.result.lesions[0]
    kinds = [("bone", 55, 0.9), ("calcification", 300, 0.1)]
    many = tuple(
        replace(lesion, lesion_id=f"{c}{i}", name=f"{c} {i}", class_name=c, area_mm2=1 / i, contribution=share / i)
        for c, count, share in kinds
        for i in range(1, count + 1)
    )
    text = _page(replace(prediction, result=replace(prediction.result, lesions=many), evidence=()), tmp_path).text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for number in range(1, MOST_MARKS // 2 + 1):
        assert f"</span>Calcification {number}</td>" in html
        assert f"</span>Bone {number}</td>" in html
    assert f"{355 - MOST_LESIONS} more findings are not listed" in text


@pytest.mark.parametrize(
    ("why", "area_mm2", "said"),
    [
        ("small", 0.011, "0.0110 mm², and the smallest finding is 0.02 mm²"),
        ("small", 0, "a speck, and the smallest finding is 0.02 mm²"),
        ("weak", 0.3, "0.3000 mm², but too weak (its probability 0.31)"),
    ],
)
def test_a_field_that_does_not_count_says_why(why, area_mm2, said, make, tmp_path):
    prediction = make()
    none = {"lesion_id": None, "why_not": why, "own_probability": 0.31}
    field = replace(prediction.evidence[0], **none, area_mm2=area_mm2, class_name="bone")
    text = _page(replace(prediction, evidence=(*prediction.evidence, field)), tmp_path).text
    assert f"Bone, not counted: {said}" in text
    assert "The strongest uncounted field of each class is shown too" in text


def test_no_lesions_and_no_evidence_are_said(make, tmp_path):
    text = _page(make(without=("lesions",)), tmp_path).text
    assert "nothing is both large and strong enough to count." in text
    assert "Strongest evidence" not in text


def test_the_same_prediction_gives_the_same_bytes(prediction, tmp_path):
    for name in ("a", "b"):
        write_report(prediction, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_set_of_diagnoses_is_said_with_its_level_and_may_be_empty(make, tmp_path):
    prediction = make()
    verdict = prediction.result.verdict
    said = {
        (verdict.label,): "No other diagnosis is in the 95 % set.",
        (): "Every diagnosis is less probable here than on 95 % of the calibration slides with it.",
        ("normal",): "slides with this diagnosis scored higher. In the 95 % set: no bone or calcification.",
        (verdict.label, "normal"): "Also in the 95 % set: no bone or calcification.",
    }
    doubtful = replace(prediction.result, reasons=(Reason("uncertain", "x"),), status="review")
    doubtful = replace(doubtful, verdict=replace(verdict, not_excluded=(verdict.label,), level=0.95))
    text = " ".join(_page(replace(prediction, result=doubtful), tmp_path).text.split())
    # A probability of 0.46 stood beside "no other diagnosis is in the 95 % set".
    assert ". Next: " in text
    assert "No other diagnosis" not in text
    for left, words in said.items():
        result = replace(prediction.result, verdict=replace(verdict, not_excluded=left, level=0.95))
        text = " ".join(_page(replace(prediction, result=result), tmp_path).text.split())
        assert words in text


def test_nothing_is_excluded_where_the_tissue_is_foreign(make, tmp_path):
    """The report said that no other diagnosis remained open, under a reason that said exclusions do not hold."""
    result = make().result
    verdict = replace(result.verdict, not_excluded=result.model.labels, level=None, exclusions_hold=False)
    strange = Reason("foreign_tissue", "The tissue is unlike that of the reference slides.")
    result = replace(result, verdict=verdict, status="review", reasons=(strange,))
    write_report(replace(make(), result=result), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<td>yes</td>" not in html
    assert "<td>no</td>" not in html
    text = " ".join(html.split())
    assert "No set of diagnoses is given, because it would not hold for such a slide." in text
    assert " % set" not in text


def test_lesions_of_results_from_before_contributions_are_shown_too(make, tmp_path):
    prediction = make()
    bare = [replace(x, contribution=None, edge_mm=None) for x in prediction.result.lesions]
    text = _page(replace(prediction, result=replace(prediction.result, lesions=tuple(bare))), tmp_path).text
    assert all(f"{x.area_mm2:.3f}" in text for x in bare)
