"""Annotations: what QuPath and histo itself write is read where it was drawn; anything else is one clear sentence."""

import contextlib
import copy
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from histo.data.annotations import IGNORE, read_annotations
from histo.errors import UsageError
from histo.export.geojson import write_lesions
from histo.geometry import Pyramid
from histo.outlines import Outline, to_polygon
from histo.results import ClassRule, Lesion, ModelInfo, Provenance, SlideResult

CLASSES = ("normal", "bone", "calcification")
BOUNDS = (700, 1300, 5000, 4000)
PYRAMID = Pyramid((6000, 6000), (1.0, 4.0), 0.5, 0.5, "recorded", BOUNDS)
NO_BOUNDS = replace(PYRAMID, bounds_level0_px=(0, 0, 6000, 6000))
RING = [[100, 200], [300, 200], [300, 500], [100, 500], [100, 200]]
HOLE = [[150, 250], [150, 300], [200, 300], [200, 250], [150, 250]]

Json = Any
Read = Callable[..., dict[str, list[Outline]]]


def feature(name: Json = "bone", ring: Json = None, **geometry: Json) -> dict[str, Json]:
    shape = {"type": "Polygon", "coordinates": [RING if ring is None else ring]} | geometry
    properties = {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "id": "1", "geometry": shape, "properties": properties}


def collection(*features: Json, **members: Json) -> dict[str, Json]:
    return {"type": "FeatureCollection", "features": list(features), **members}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a tree, or text, and read it back."""

    def read(tree: Json, pyramid: Pyramid = NO_BOUNDS) -> dict[str, list[Outline]]:
        path = tmp_path / "a.geojson"
        if isinstance(tree, bytes):
            path.write_bytes(tree)
        else:
            path.write_text(json.dumps(tree), encoding="utf-8")
        return dict(read_annotations(path, CLASSES, pyramid))

    return read


# What histo writes


def test_written_lesions_come_back_where_they_were(tmp_path: Path) -> None:
    model = ModelInfo(
        "m", "0" * 64, tuple(ClassRule(c, (1, 2, 3), 0.01, c) for c in CLASSES[1:]), "normal", "Tests.", "None."
    )
    bare = SlideResult("a", "a.svs", None, "done", (), model, Provenance({}, {}, "", "cpu"), PYRAMID)
    outlines = {
        "bone": tuple(tuple((x + 900.25, y + 1500.5) for x, y in ring) for ring in (RING, HOLE)),
        "calcification": (tuple((x + 2900.0, y + 3500.0) for x, y in RING),),
    }
    lesions = [Lesion(c, f"{c} 1", c, o, 0.1, 0.1, 0.9, 0.9, (0, 0)) for c, o in outlines.items()]
    write_lesions(replace(bare, lesions=tuple(lesions)), tmp_path / "l.geojson")
    found = read_annotations(tmp_path / "l.geojson", CLASSES, PYRAMID)
    assert set(found) == set(outlines)
    for name, outline in outlines.items():
        (back,) = found[name]
        assert to_polygon(back).symmetric_difference(to_polygon(outline)).area < 0.1
        assert len(back) == len(outline)


def test_coordinates_count_from_the_scanner_s_bounds_unless_the_file_says_level0(read: Read) -> None:
    (from_bounds,) = read(collection(feature()), PYRAMID)["bone"]
    (from_level0,) = read(collection(feature(), histo={"origin": "level0"}), PYRAMID)["bone"]
    assert to_polygon(from_level0).bounds == (100, 200, 300, 500)
    assert to_polygon(from_bounds).bounds == (800, 1500, 1000, 1800)


def test_an_export_of_the_digital_slide_archive_counts_from_level0(read: Read) -> None:
    drawn = feature()
    drawn["properties"]["annotation"] = {}
    (outline,) = read([drawn], PYRAMID)["bone"]
    assert to_polygon(outline).bounds == (100, 200, 300, 500)


# What QuPath writes


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(collection(feature()), id="collection"),
        pytest.param([feature()], id="list"),
        pytest.param(feature(), id="single-feature"),
    ],
)
def test_a_file_may_hold_a_collection_a_list_or_one_feature(tree: Json, read: Read) -> None:
    assert {name: len(found) for name, found in read(tree).items()} == {"bone": 1}


@pytest.mark.parametrize("name", ["bone", "Bone", " BONE ", "bone*"])
def test_a_class_is_known_however_it_is_capitalised(name: str, read: Read) -> None:
    assert set(read(collection(feature(name)))) == {"bone"}


@pytest.mark.parametrize("name", ["Ignore*", "Ignore", "ignore"])
def test_qupath_s_ignore_is_understood(name: str, read: Read) -> None:
    assert set(read(collection(feature(name)))) == {IGNORE}


def test_a_classification_may_be_plain_text_or_an_old_colour(read: Read) -> None:
    plain, old = feature(), feature()
    plain["properties"]["classification"] = "bone"
    old["properties"]["classification"] = {"name": "Calcification", "colorRGB": -3140401}
    assert set(read([plain, old])) == {"bone", "calcification"}


def test_measurements_names_locks_and_nulls_do_not_matter(read: Read) -> None:
    rich = feature()
    rich["properties"] |= {"isLocked": True, "measurements": [{"name": "Area", "value": 3}], "name": None}
    rich |= {"nucleusGeometry": None, "bbox": [0, 0, 1, 1]}
    assert len(read([rich])["bone"]) == 1


def test_holes_parts_and_heights_are_read(read: Read) -> None:
    holed = feature(coordinates=[RING, HOLE])
    parts = feature(type="MultiPolygon", coordinates=[[RING, HOLE], [[[x + 900, y] for x, y in RING]]])
    with_z = feature(ring=[[*xy, 0] for xy in RING])
    found = read([holed, parts, with_z])["bone"]
    assert sorted(len(o) for o in found) == [1, 1, 2, 2]
    assert all(len(point) == 2 for o in found for ring in o for point in ring)


def test_a_self_crossing_outline_is_repaired(read: Read) -> None:
    found = read([feature(ring=[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]])])["bone"]
    assert sum(to_polygon(o).area for o in found) == 5000


def test_an_outline_may_reach_over_the_border(read: Read) -> None:
    assert read([feature(ring=[[-50, -50], [50, -50], [50, 50], [-50, 50], [-50, -50]])])["bone"]


def test_a_file_without_features_is_read_as_none(read: Read) -> None:
    assert read(collection()) == {}


def test_a_byte_order_mark_is_no_hindrance(read: Read) -> None:
    """PowerShell and Notepad put one in front."""
    assert read(b"\xef\xbb\xbf" + json.dumps(collection(feature())).encode())["bone"]


# What cannot be read


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b"<xml/>", "is XML that begins with <xml>", id="xml"),
        pytest.param(b"<xml", "is not XML", id="broken-xml"),
        pytest.param(b'{"features": [', "is not JSON", id="half"),
        pytest.param(b"\xff\xfe{}", "is not JSON", id="not-utf8"),
        pytest.param(b"[" * 100_000, "a.geojson", id="endlessly-deep"),
        pytest.param({}, "no list of GeoJSON features", id="no-features"),
        pytest.param(None, "no list of GeoJSON features", id="null"),
        pytest.param(3, "no list of GeoJSON features", id="number"),
        pytest.param({"features": {"a": 1}}, "no list of GeoJSON features", id="features-no-list"),
        pytest.param([None], "feature 1 is a feature of no kind", id="null-feature"),
        pytest.param([feature(), 3], "feature 2 is a feature of no kind", id="number-feature"),
        pytest.param([feature() | {"properties": None}], "feature 1 has no classification", id="no-properties"),
        pytest.param([feature() | {"properties": "bone"}], "feature 1", id="text-properties"),
        pytest.param([feature() | {"properties": [1]}], "feature 1", id="list-properties"),
        pytest.param([feature("")], "feature 1 has no classification", id="empty-class"),
        pytest.param([feature(None)], "feature 1 has no classification", id="null-class"),
        pytest.param([feature(7)], "feature 1 has no classification", id="number-class"),
        pytest.param([feature("tumour")], "unknown class 'tumour'; use one of normal, bone", id="unknown-class"),
        pytest.param([feature() | {"geometry": None}], "feature without geometry", id="no-geometry"),
        pytest.param([feature(type="Point", coordinates=[1, 2])], "is a Point; only polygons", id="point"),
        pytest.param([feature(type="LineString", coordinates=RING)], "is a LineString", id="line"),
        pytest.param([feature(type="GeometryCollection")], "is a GeometryCollection", id="collection"),
        pytest.param([feature(type=["Polygon"])], "feature 1", id="list-type"),
        pytest.param([feature(coordinates=None)], "feature 1", id="null-coordinates"),
        pytest.param([feature(coordinates=[])], "feature 1", id="no-coordinates"),
        pytest.param([feature(coordinates=5)], "feature 1", id="number-coordinates"),
        pytest.param([feature(coordinates="abc")], "feature 1", id="text-coordinates"),
        pytest.param([feature(coordinates={"a": 1})], "feature 1", id="object-coordinates"),
        pytest.param([feature(ring=[["a", "b"]] * 4)], "feature 1 has broken coordinates", id="text-points"),
        pytest.param([feature(ring=[[1], [2], [3], [1]])], "feature 1", id="one-number-points"),
        pytest.param([feature(ring=[[0, 0], [1, 1]])], "feature 1", id="two-points"),
        pytest.param([feature(ring=[[0, 0], [5, 5], [9, 9], [0, 0]])], "feature 1 has no area", id="no-area"),
        pytest.param([feature(ring=[[0, 0], [9, None], [9, 9], [0, 0]])], "feature 1", id="null-number"),
        pytest.param([feature(ring=[[0, 0], [float("nan"), 0], [9, 9], [0, 0]])], "feature 1", id="nan"),
        pytest.param([feature(ring=[[0, 0], [float("inf"), 0], [9, 9], [0, 0]])], "feature 1", id="infinite"),
        pytest.param([feature(ring=[[0, 0], [1e300, 0], [1e300, 1e300], [0, 0]])], "feature 1", id="huge"),
        pytest.param([feature(ring=[[7000, 0], [7100, 0], [7100, 90], [7000, 0]])], "outside the slide", id="outside"),
        pytest.param([feature(type="MultiPolygon", coordinates=[RING])], "feature 1", id="multi-too-flat"),
    ],
)
def test_a_broken_file_is_a_usage_error_that_names_the_place(tree: Json, message: str, read: Read) -> None:
    with pytest.raises(UsageError) as caught:
        read(tree)
    assert message in str(caught.value)
    assert "a.geojson" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("missing.geojson", "cannot be read"), (".", "is no file"), ("pipe", "is no file")]
)
def test_a_file_that_cannot_be_opened_is_a_usage_error(name: str, said: str, tmp_path: Path) -> None:
    """Regression: `histo annotations check` of a pipe waited for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=said):
        read_annotations(tmp_path / name, CLASSES, PYRAMID)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["bone", "Polygon"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Json:
    """A good file with anything at all in one place of it, or something left out."""
    tree: Json = collection(feature(coordinates=[RING, HOLE]), feature("Ignore*"))
    tree = copy.deepcopy(tree)
    node, key = None, None
    inside = tree
    while isinstance(inside, (dict, list)) and inside and (node is None or draw(st.booleans())):
        node = inside
        key = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        inside = node[key]
    if draw(st.booleans()):
        node[key] = draw(anything)
    else:
        del node[key]
    return tree


@given(spoilt())
@example(collection(feature() | {"properties": [1]}))
@settings(deadline=None, max_examples=200)
def test_no_spoilt_file_ends_in_anything_but_outlines_or_a_usage_error(tree: Json) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        path.write_text(json.dumps(tree), encoding="utf-8")
        try:
            found = read_annotations(path, CLASSES, PYRAMID)
        except UsageError:
            return
    for outlines in found.values():
        for outline in outlines:
            assert to_polygon(outline).is_valid
            assert all(np.isfinite(ring).all() for ring in outline)
            assert shapely.Polygon(outline[0]).area > 0


@given(anything)
@settings(deadline=None, max_examples=80)
def test_no_json_at_all_ends_in_anything_but_outlines_or_a_usage_error(tree: Json) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        path.write_text(json.dumps(tree), encoding="utf-8")
        with contextlib.suppress(UsageError):
            assert read_annotations(path, CLASSES, PYRAMID) == {}
