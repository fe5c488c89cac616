"""Masks: the phantoms' own truth, and any label mask of the slide's shape."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from histo.data.annotation_formats.mask import _reduction
from histo.data.annotations import read_annotations, read_objects
from histo.errors import UsageError
from histo.geometry import Pyramid
from histo.outlines import to_polygon
from histo.phantom import PhantomFiles

PYRAMID = Pyramid((1000, 803), (1.0,), 0.5, 0.5, "recorded", (0, 0, 1000, 803))
CLASSES = ("normal", "bone", "calcification")


def write(folder: Path, values: np.ndarray, record: object = None) -> Path:
    path = folder / "s.mask.tif"
    tifffile.imwrite(path, values)
    if record is not None:
        (folder / "s.json").write_text(json.dumps(record))
    return path


@pytest.fixture
def values() -> np.ndarray:
    found = np.zeros((101, 125), np.uint8)
    found[10:20, 30:60] = 1
    found[40:90, 5:25] = 2
    found[60:63, 100:120] = 9
    return found


def test_cells_are_level0_px_of_the_slide(values: np.ndarray, tmp_path: Path) -> None:
    one, two, nine = read_objects(write(tmp_path, values), PYRAMID)
    assert (one.words, two.words, nine.words) == (("value 1",), ("value 2",), ("value 9",))
    (ring,) = one.polygons[0]
    assert shapely.Polygon(ring).bounds == (240, 80, 480, 160)


@given(st.integers(3, 9).map(lambda k: 2**k), st.integers(1, 300_000), st.integers(1, 300_000), st.booleans())
def test_a_mask_of_any_whole_reduction_has_its_cells(cell: int, width: int, height: int, whole: bool) -> None:
    # Bug: with few cells the reduction was one off (127 for 128), and outlines lay shifted towards the far edge.
    columns, rows = (max(1, -(-side // cell) if whole else side // cell) for side in (width, height))
    if min(width, height) >= cell:
        assert _reduction((columns, width), (rows, height)) == cell or min(columns, rows) < 3


def test_the_record_beside_a_phantom_names_its_lesions_and_only_those(values: np.ndarray, tmp_path: Path) -> None:
    record = {"mask_ids": {"calcification": 1, "bone": 2, "cartilage": 9}, "components": [{"class": "bone"}]}
    (only,) = read_objects(write(tmp_path, values, record), PYRAMID)
    assert only.words == ("bone",)


def test_aliases_say_what_numbers_mean(values: np.ndarray, tmp_path: Path) -> None:
    aliases = {"value 1": "calcification", "value 2": "bone", "value 9": "ignore"}
    found = read_annotations(write(tmp_path, values), CLASSES, PYRAMID, aliases)
    assert {name: len(outlines) for name, outlines in found.items()} == {"calcification": 1, "bone": 1, "ignore": 1}


def test_a_phantom_s_mask_is_its_geojson(phantoms: dict[str, PhantomFiles]) -> None:
    files = phantoms["calcinosis_cutis"]
    pyramid = Pyramid((2400, 2400), (1.0,), 0.5, 0.5, "recorded", (0, 0, 2400, 2400))
    by_mask, by_outline = (read_annotations(p, CLASSES, pyramid) for p in (files.mask, files.geojson))
    assert set(by_mask) == set(by_outline)
    for name in by_mask:
        one, other = (shapely.union_all([to_polygon(o) for o in f[name]]) for f in (by_mask, by_outline))
        # The GeoJSON cuts the corners of its 1 µm cells.
        assert one.symmetric_difference(other).area < 5e-3 * one.area


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros((50, 125), np.uint8), "another slide's mask"),
        (np.zeros((101, 125), np.uint16), "no mask of class numbers"),
        (np.zeros((101, 125, 3), np.uint8), "no mask of class numbers"),
    ],
)
def test_a_picture_or_another_slide_s_mask_is_refused(found: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_objects(write(tmp_path, found), PYRAMID)


@pytest.mark.parametrize("keep", [4, 20, 200])
def test_half_a_mask_is_a_usage_error(keep: int, values: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path, values)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"s\.mask\.tif"):
        read_objects(path, PYRAMID)
