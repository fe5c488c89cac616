"""Near copies: the same scan stored anew, rescaled, recoloured or cropped is found; other tissue is not."""

from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data.likeness import ALIKE, SAME, Fingerprint, fingerprint, likeness, near_copies
from histo.geometry import MapGrid
from histo.results import Overview

Rgb = NDArray[np.uint8]
Paint = Callable[..., Rgb]


def print_of(rgb: Rgb) -> Fingerprint:
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), rgb.shape[:2], (8.0, 8.0))
    darkest = rgb.min(axis=-1)
    found = fingerprint(Overview(rgb, grid), darkest < np.median(darkest[:3]) - 8)
    assert found is not None
    return found


def stored_anew(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR))


def recoloured(rgb: Rgb) -> Rgb:
    return np.clip(rgb * np.array([0.95, 0.9, 1.0]) + 5, 0, 255).astype(np.uint8)


def scaled(rgb: Rgb, factor: float) -> Rgb:
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rgb: rgb, id="same"),
        pytest.param(stored_anew, id="jpeg-40"),
        pytest.param(recoloured, id="recoloured"),
        pytest.param(lambda rgb: scaled(rgb, 0.5), id="half"),
        pytest.param(lambda rgb: scaled(rgb, 1.37), id="larger"),
        pytest.param(lambda rgb: rgb[15:, 22:], id="glass-cropped"),
        pytest.param(lambda rgb: rgb[:, 85:], id="tissue-cropped"),
        pytest.param(lambda rgb: stored_anew(scaled(rgb[20:-15, 25:-18], 0.7)), id="all-at-once"),
    ],
)
def test_a_copy_is_found_however_it_was_stored(change: Callable[[Rgb], Rgb], paint_block: Paint) -> None:
    for seed in range(3):
        rgb = paint_block(seed)
        others = [print_of(paint_block(100 + n)) for n in range(2)]
        ((one, other, alike),) = near_copies([print_of(rgb), *others, print_of(change(rgb))])
        assert (one, other) == (0, 3)
        assert alike >= SAME


def test_other_tissue_is_never_taken_for_a_copy(paint_block: Paint) -> None:
    prints = [print_of(paint_block(seed)) for seed in range(12)]
    assert near_copies(prints) == []
    assert max(likeness(a, b) for a, b in combinations(prints, 2)) < ALIKE


def test_likeness_does_not_depend_on_the_order(paint_block: Paint) -> None:
    one, other = print_of(paint_block(0)), print_of(paint_block(1))
    assert likeness(one, other) == likeness(other, one)
    assert likeness(one, one) == pytest.approx(1, abs=1e-3)


def test_specks_of_dust_do_not_change_where_the_tissue_ends(paint_block: Paint) -> None:
    clean, dusty = paint_block(3), paint_block(3)
    dusty[5:8, 5:8] = 100
    assert likeness(print_of(clean), print_of(dusty)) > 0.98


def test_a_slide_without_tissue_has_no_fingerprint_and_is_like_none(paint_block: Paint) -> None:
    glass = np.full((100, 100, 3), 244, np.uint8)
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), (100, 100), (8.0, 8.0))
    assert fingerprint(Overview(glass, grid), np.zeros((100, 100), bool)) is None
    assert near_copies([None, print_of(paint_block(0)), None]) == []


def test_flat_tissue_is_like_nothing() -> None:
    """Without any detail there is nothing to compare; two empty fields are no evidence."""
    flat = np.full((80, 80, 3), 200, np.uint8)
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), (80, 80), (8.0, 8.0))
    assert fingerprint(Overview(flat, grid), np.ones((80, 80), bool)) is None


@pytest.mark.parametrize("line", [0, -1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_fingerprint_is_cut_to_the_tissue_to_its_last_row_and_column(line: int, axis: int) -> None:
    """All detail of this slide lies in one outermost line of its tissue."""
    rgb, tissue = np.full((90, 110, 3), 244, np.uint8), np.zeros((90, 110), bool)
    tissue[10:60, 30:75] = True
    rgb[tissue] = 200
    edge = [np.arange(10, 60), np.arange(30, 75)]
    edge[axis] = edge[axis][[line]]
    rgb[np.ix_(*edge)] = 60
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), (90, 110), (8.0, 8.0))
    found = fingerprint(Overview(rgb, grid), tissue)
    assert found is not None
    assert int(np.abs(found.picture).sum(axis=1 - axis).argmax()) == (0 if line == 0 else 95)


def test_pairs_are_told_by_their_place_among_all_slides_from_the_least_likeness_on(
    paint_block: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = print_of(paint_block(0))
    monkeypatch.setattr("histo.data.likeness.likeness", lambda first, second: ALIKE)
    assert near_copies([None, one, None, one]) == [(1, 3, ALIKE)]
    monkeypatch.setattr("histo.data.likeness.likeness", lambda first, second: ALIKE - 0.01)
    assert near_copies([None, one, None, one]) == []
