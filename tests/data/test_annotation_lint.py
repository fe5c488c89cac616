"""The linter: every kind of slip is found where it is, and clean outlines get no word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.annotation_formats.drawn import Drawn
from histo.data.annotation_lint import areas_mm2, lint
from histo.data.annotations import Vocabulary, read_objects
from histo.data.findings import Finding, shorten
from histo.geometry import MapGrid, Pyramid

PYRAMID = Pyramid((4000, 3000), (1.0,), 0.5, 0.5, "recorded", (0, 0, 4000, 3000))
WORDS = Vocabulary(("normal", "bone", "calcification"), {"tumour": "ignore"})
GRID = MapGrid((0.0, 0.0), (16.0, 16.0), (188, 250), (8.0, 8.0))
TISSUE = np.zeros(GRID.shape, bool)
TISSUE[10:150, 10:120] = True  # level-0 px 160..1920 x 160..2400


def box(x: float, y: float, width: float = 200, height: float = 200) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def feature(*rings: Any, name: str = "bone", called: str = "") -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}, "name": called}}


Lint = Callable[..., list[Finding]]


@pytest.fixture
def found(tmp_path: Path) -> Lint:
    def found(*features: Any, tissue: Any = (TISSUE, GRID)) -> list[Finding]:
        path = tmp_path / "a.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
        return lint(read_objects(path, PYRAMID), WORDS, PYRAMID, tissue)[0]

    return found


def test_clean_outlines_get_no_word(found: Lint) -> None:
    assert found(feature(box(300, 300)), feature(box(700, 300), name="calcification")) == []


@pytest.mark.parametrize(
    ("features", "severity", "kind", "message"),
    [
        ([feature([[300, 300], [600, 300], [600, 500], [450, 700], [300, 600]])], "warning", "open", "is not closed"),
        ([feature([[300, 300], [500, 500], [500, 300], [300, 500]])], "warning", "crossing", "near x 400, y 400"),
        ([feature(box(300, 300)), feature(box(400, 300), name="calcification")], "warning", "overlap", "0.005"),
        ([feature(box(300, 300)), feature(box(350, 350, 50, 50), name="tumour")], "warning", "overlap", "(ignore)"),
        ([feature(box(2500, 2000)), feature(box(300, 300, 900, 900))], "warning", "off_tissue", "100% beside the"),
        ([feature(box(2500, 2000))], "error", "off_tissue", "another slide's"),
        ([feature(box(5000, 300))], "error", "broken", "outside the slide of 4000 x 3000"),
        ([feature(box(300, 2900))], "warning", "outside", "with 50% of its area"),
        ([feature(box(300, 300), box(350, 350, 20, 20))], "note", "holes", "has a hole"),
        ([feature(box(300, 300, 15, 15))], "warning", "sliver", "56.2 µm²"),
        ([feature(box(300, 300, 400, 2))], "warning", "sliver", "too small or thin"),
        ([feature(box(300, 300), name="bowne")], "error", "unknown_class", "the file's words are bowne"),
        ([feature([[1, 1], [2, 2], [3, 3], [1, 1]])], "error", "broken", "has no area"),
        ([feature(box(300, 300)), {"type": "Feature", "geometry": None}], "error", "broken", "only polygons"),
    ],
)  # fmt: skip
def test_every_slip_is_found(features: list[Any], severity: str, kind: str, message: str, found: Lint) -> None:
    (finding,) = [f for f in found(*features) if (f.kind, f.severity) == (kind, severity)]
    assert message in str(finding)


@pytest.mark.parametrize("ring", [box(300, 300)[:-1], [*box(300, 300)[:-1], [300, 303]]], ids=["square", "slip"])
def test_a_ring_that_only_lacks_its_last_point_is_no_slip(ring: Any, found: Lint) -> None:
    assert found(feature(ring)) == []


def test_a_finding_names_the_object(found: Lint) -> None:
    good, bad = feature(box(300, 300)), feature(box(900, 900, 9, 9), called="spur 3")
    assert [f.place for f in found(good, bad)] == ["feature 2 (spur 3)"]


def test_a_point_that_is_to_be_ignored_is_no_error(found: Lint) -> None:
    point = feature(name="tumour") | {"geometry": {"type": "Point", "coordinates": [1, 2]}}
    assert found(point) == []


def test_without_a_tissue_mask_nothing_is_said_of_it(found: Lint) -> None:
    assert found(feature(box(2500, 2000)), tissue=None) == []


def test_the_same_class_may_overlap_and_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([feature(box(300, 300)), feature(box(400, 300))]))
    findings, shapes = lint(read_objects(path, PYRAMID), WORDS, PYRAMID)
    assert findings == []
    assert areas_mm2(shapes, PYRAMID)["bone"] == pytest.approx(300 * 200 * 0.25e-6)


coordinates = st.floats(-500, 4500) | st.integers(-500, 4500)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


@given(st.lists(st.tuples(st.sampled_from(["bone", "calcification", "ignore", "?"]), rings), max_size=4))
def test_no_scribble_makes_the_linter_fail(scribbles: list[tuple[str, Any]]) -> None:
    objects = [Drawn(f"object {n}", (word,), ((tuple(ring),),)) for n, (word, ring) in enumerate(scribbles)]
    findings, shapes = lint(objects, WORDS, PYRAMID, (TISSUE, GRID))
    assert all(str(f) and "\n" not in str(f) for f in findings)
    broken = {f.place for f in findings if f.kind in ("broken", "unknown_class")}
    assert {s.place for s in shapes} == {o.place for o in objects} - broken


def test_a_long_list_is_cut_and_counted() -> None:
    many = [Finding("warning", "sliver", f"feature {n}", "is thin") for n in range(40)]
    other = Finding("error", "broken", "feature 99", "is broken")
    short = shorten([*many, other], 3)
    assert [str(f) for f in short] == [
        "feature 0: is thin", "feature 1: is thin", "feature 2: is thin", "and: 37 more like the 3 above",
        "feature 99: is broken",
    ]  # fmt: skip
