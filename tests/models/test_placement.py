"""Where lesions lie: distances that are known, and holes that are no edges."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.config import RuleConfig
from histo.geometry import Pyramid
from histo.models.lesions import find_lesions
from histo.models.placement import distance, locate, without_holes
from histo.results import ClassRule, Lesion, SlideMap

RULES = (ClassRule("bone", (1, 2, 3), 0.02, "ho"), ClassRule("calcification", (4, 5, 6), 0.005, "cc"))
MakeMap = Callable[..., tuple[SlideMap, Pyramid]]


def part(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def placed(case: tuple[SlideMap, Pyramid]) -> tuple[Lesion, ...]:
    return locate(find_lesions(*case, RULES, RuleConfig(), "id"), case[0])[0].lesions


def test_the_distance_to_the_edge_is_that_of_the_nearest_cell_in_mm(make_map: MakeMap) -> None:
    tissue = part(5, 5, 50, 70).astype(np.float32)
    (lesion,) = placed(make_map(bone=((20, 30, 12, 12, 0.95),), changes={"tissue": tissue}))
    assert lesion.edge_mm == pytest.approx(15 * 0.016, abs=0.012)


def test_where_the_scan_ends_is_an_edge_and_a_hole_in_the_tissue_is_none(make_map: MakeMap) -> None:
    (at_border,) = placed(make_map(bone=((0, 30, 12, 12, 0.95),)))
    assert at_border.edge_mm == pytest.approx(0, abs=0.01)
    hole = (~part(20, 46, 12, 12)).astype(np.float32)
    (by_hole,) = placed(make_map(bone=((20, 30, 12, 12, 0.95),), changes={"tissue": hole}))
    assert by_hole.edge_mm == pytest.approx(20 * 0.016, abs=0.02)


def test_lesions_stay_what_they_are(make_map: MakeMap) -> None:
    case = make_map(bone=((20, 30, 12, 12, 0.95),))
    findings = find_lesions(*case, RULES, RuleConfig(), "id")
    before, after = findings[0].lesions[0], locate(findings, case[0])[0].lesions[0]
    assert (after.lesion_id, after.outline, after.area_mm2) == (before.lesion_id, before.outline, before.area_mm2)
    assert locate((findings[1],), case[0]) == (findings[1],)


@given(st.integers(0, 2**32), st.integers(1, 14), st.integers(1, 14))
def test_distances_are_those_to_the_nearest_cell_outside(seed: int, rows: int, columns: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.8
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    for row, column in np.argwhere(padded):
        nearest = np.sqrt(((outside - (row, column)) ** 2).sum(axis=1).min())
        assert distance(mask)[row - 1, column - 1] == pytest.approx(nearest, rel=1e-4)


def test_holes_are_filled_and_bays_are_not() -> None:
    ring = part(2, 2, 7, 7, (12, 12)) & ~part(4, 4, 3, 3, (12, 12))
    assert (without_holes(ring) == part(2, 2, 7, 7, (12, 12))).all()
    open_ring = ring & ~part(2, 5, 2, 1, (12, 12))
    assert (without_holes(open_ring) == open_ring).all()
