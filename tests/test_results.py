"""Results as JSON: the same result always gives the same text, and a file that is no result says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from histo.errors import UsageError
from histo.files import write_text
from histo.geometry import Pyramid
from histo.results import (
    RESEARCH_USE,
    SCHEMA,
    Areas,
    ClassBurden,
    ClassRule,
    Lesion,
    ModelInfo,
    Provenance,
    Reason,
    SlideResult,
    StainGains,
    Verdict,
    load_result,
    to_json,
)

INFO = ModelInfo(
    name="test",
    digest="ab" * 32,
    classes=(
        ClassRule("bone", (1, 2, 3), 0.02, "heterotopic_ossification"),
        ClassRule("marrow", (4, 5, 6), 0.02, "heterotopic_ossification"),
        ClassRule("calcification", (7, 8, 9), 0.005, "calcinosis_cutis"),
    ),
    normal_label="normal",
    intended_use="Tests.",
    calibration="None.",
)
RING = ((0.0, 0.1), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 0.1))
HOLE = ((2.0, 2.0), (3.0, 2.0), (3.0, 3.0), (2.0, 2.0))


@pytest.fixture
def result() -> SlideResult:
    return SlideResult(
        slide_id="Größe µ 😀",
        path="/archive/a\nb,;\"'.svs",
        sha256="cd" * 32,
        status="review",
        reasons=(Reason("uncertain", "Thin evidence."),),
        model=INFO,
        provenance=Provenance({"histo": "0"}, {"mpp": None, "n": 3, "f": 0.1, "s": "x"}, "ef" * 32, "cpu"),
        pyramid=Pyramid((4000, 3000), (1.0, 4.0003), 0.2527, 0.2531, "user", (10, 20, 3000, 2000)),
        verdict=Verdict("normal", {"normal": 0.1 + 0.2, "calcinosis_cutis": 0.7}, ("normal",), ("bone",)),
        areas=Areas(1.5, 1.0, 0.25, 0.25),
        burdens=(ClassBurden("bone", 0.1, 1, 0.3, 0.9),),
        lesions=(Lesion("id", "bone 1", "bone", (RING, HOLE), 0.1, 0.3, 0.8, 0.9, (5.0, 5.0)),),
        stain_gains=StainGains((1.25, 0.5, 4.0), 0.8),
        files={"report": "report.html"},
    )


def test_a_result_comes_back_as_it_was(result: SlideResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text(path, to_json(result))
    assert load_result(path) == result
    assert to_json(load_result(path)) == to_json(result)


def test_a_failed_slide_s_result_comes_back_too(result: SlideResult, tmp_path: Path) -> None:
    bare = SlideResult("a", "a.svs", None, "failed", (Reason("empty_file", "Empty."),), INFO, result.provenance)
    write_text(tmp_path / "r.json", to_json(bare))
    assert load_result(tmp_path / "r.json") == bare


def test_every_result_says_research_use_only(result: SlideResult) -> None:
    assert json.loads(to_json(result))["research_use"] == RESEARCH_USE
    assert "Research use only" in RESEARCH_USE


def test_a_number_that_is_none_is_not_written(result: SlideResult) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json(replace(result, areas=Areas(float("nan"), 1.0, 0.0, 0.0)))


def test_labels_are_listed_once_and_channels_start_with_the_normal_class() -> None:
    assert INFO.labels == ("normal", "heterotopic_ossification", "calcinosis_cutis")
    assert INFO.class_names == ("normal", "bone", "marrow", "calcification")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe{}", b'{"slide_id": 3}', b"NaN"],
    ids=["empty", "half", "list", "null", "no-keys", "not-utf8", "wrong-type", "nan"],
)
def test_a_file_that_is_no_result_is_a_usage_error_naming_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"result\.json is not a result of histo"):
        load_result(path)


def test_a_truncated_result_is_refused(result: SlideResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    text = to_json(result).encode()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(text[: int(len(text) * share)])
        with pytest.raises(UsageError):
            load_result(path)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_path_that_cannot_be_read_is_a_usage_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_result(tmp_path / name)


def test_an_unknown_status_is_refused(result: SlideResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(to_json(result).replace('"review"', '"perfect"'))
    with pytest.raises(UsageError, match="not a result"):
        load_result(path)


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1])
def test_another_schema_is_refused_by_its_number(schema: int, result: SlideResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(to_json(replace(result, schema=schema)))
    with pytest.raises(UsageError, match=f"schema {schema} and this version reads {SCHEMA}"):
        load_result(path)


def test_a_slide_id_that_is_not_utf8_can_still_be_read_back(result: SlideResult, tmp_path: Path) -> None:
    """A path's stem may hold bytes that are no text; `predict_slide` takes it as the slide's id."""
    path = tmp_path / "result.json"
    write_text(path, to_json(replace(result, slide_id=Path("n\udcff.svs").stem)))
    assert load_result(path).status == "review"


def test_a_result_from_before_contributions_and_levels_can_still_be_read(result: SlideResult, tmp_path: Path) -> None:
    tree = json.loads(to_json(result))
    for lesion in tree["lesions"]:
        del lesion["contribution"], lesion["edge_mm"]
    for burden in tree["burdens"]:
        del burden["evidence"]
    del tree["verdict"]["level"]
    (tmp_path / "result.json").write_text(json.dumps(tree))
    old = load_result(tmp_path / "result.json")
    assert (old.lesions[0].contribution, old.burdens[0].evidence, old.verdict and old.verdict.level) == (
        None,
        None,
        None,
    )


def test_what_is_said_of_a_lesion_s_place_comes_back(result: SlideResult, tmp_path: Path) -> None:
    lesion = replace(result.lesions[0], contribution=0.5, edge_mm=0.1)
    placed = replace(result, lesions=(lesion,))
    write_text(tmp_path / "result.json", to_json(placed))
    assert load_result(tmp_path / "result.json") == placed
