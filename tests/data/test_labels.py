"""Label maps: precedence, holes, what nobody annotated, and fractions that add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from histo.data.annotations import IGNORE
from histo.data.labels import IGNORED, draw_labels, to_fractions
from histo.geometry import MapGrid
from histo.outlines import Outline

CLASSES = ("normal", "bone", "calcification")
GRID = MapGrid((1000.0, 500.0), (4.0, 2.0), (40, 50), (1.0, 1.0))


def box(left: int, top: int, right: int, bottom: int) -> Outline:
    """A rectangle of cells of `GRID`."""
    x, y = (1000.0 + 4 * left, 1000.0 + 4 * right), (500.0 + 2 * top, 500.0 + 2 * bottom)
    return (((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])),)


def holed(outer: Outline, inner: Outline) -> Outline:
    return (*outer, *inner)


def cells(left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("unannotated", [0, IGNORED])
def test_cells_outside_every_outline_get_what_unannotated_says(unannotated: int) -> None:
    labels = draw_labels({"bone": [box(10, 5, 30, 25)]}, CLASSES, GRID, unannotated)
    assert labels.dtype == np.uint8
    assert (labels[cells(10, 5, 30, 25)] == 1).all()
    assert (labels[~cells(10, 5, 30, 25)] == unannotated).all()


def test_the_first_lesion_class_goes_before_the_others_in_whatever_order_they_were_drawn() -> None:
    outlines = {"bone": [box(10, 10, 20, 20)], "calcification": [box(15, 10, 30, 20)], "normal": [box(0, 0, 40, 30)]}
    for names in (list(outlines), list(reversed(outlines))):
        labels = draw_labels({name: outlines[name] for name in names}, CLASSES, GRID, IGNORED)
        assert (labels[cells(10, 10, 20, 20)] == 1).all()
        assert (labels[cells(20, 10, 30, 20)] == 2).all()
        assert (labels[cells(0, 0, 10, 30)] == 0).all()
        assert (labels[cells(40, 0, 50, 40)] == IGNORED).all()


def test_ignore_goes_before_everything() -> None:
    outlines = {"bone": [box(10, 10, 30, 30)], IGNORE: [box(20, 10, 30, 20)]}
    labels = draw_labels(outlines, CLASSES, GRID, 0)
    assert (labels[cells(20, 10, 30, 20)] == IGNORED).all()
    assert (labels[cells(10, 10, 20, 30)] == 1).all()


def test_a_hole_keeps_what_lies_under_it() -> None:
    ring = holed(box(10, 5, 40, 35), box(20, 15, 30, 25))
    labels = draw_labels({"bone": [ring], "calcification": [box(22, 17, 26, 21)]}, CLASSES, GRID, 0)
    assert (labels[cells(10, 5, 40, 35) & ~cells(20, 15, 30, 25)] == 1).all()
    assert (labels[cells(22, 17, 26, 21)] == 2).all()
    assert (labels[cells(20, 15, 30, 25) & ~cells(22, 17, 26, 21)] == 0).all()


def test_no_outlines_is_all_unannotated() -> None:
    assert (draw_labels({}, CLASSES, GRID, IGNORED) == IGNORED).all()


@given(
    arrays(np.uint8, st.integers(1, 4).map(lambda n: (n * 8, n * 8)), elements=st.sampled_from([0, 1, 2, IGNORED])),
    st.sampled_from([1, 2, 4, 8]),
)
def test_fractions_add_up_and_weights_are_the_annotated_share(labels: NDArray[np.uint8], stride: int) -> None:
    fractions, weights = to_fractions(labels, 3, stride)
    side = labels.shape[0] // stride
    assert fractions.shape == (3, side, side)
    assert weights.shape == (side, side)
    assert fractions.dtype == weights.dtype == np.float32
    total = fractions.sum(axis=0)
    assert np.allclose(total[weights > 0], 1, atol=1e-5)
    assert not total[weights == 0].any()
    assert weights.sum() * stride**2 == pytest.approx((labels != IGNORED).sum(), rel=1e-5)
    for c in range(3):
        assert (fractions[c] * weights).sum() * stride**2 == pytest.approx((labels == c).sum(), rel=1e-4, abs=1e-4)


@given(arrays(np.uint8, (48, 48), elements=st.sampled_from([0, 1, 2, IGNORED])), st.sampled_from([1, 3, 6, 16, 24, 48]))
def test_fractions_are_the_plain_means_to_the_bit(labels: NDArray[np.uint8], stride: int) -> None:
    side = 48 // stride
    cells = labels.reshape(side, stride, side, stride)
    areas = np.stack([(cells == c).mean(axis=(1, 3)) for c in range(3)]).astype(np.float32)
    fractions, weights = to_fractions(labels, 3, stride)
    assert weights.tobytes() == areas.sum(axis=0).tobytes()
    assert fractions.tobytes() == (areas / np.maximum(areas.sum(axis=0), 1e-6)).tobytes()


def test_rows_stay_rows() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[0:4, 4:8] = 1
    fractions, _ = to_fractions(labels, 2, 4)
    assert fractions[1].tolist() == [[0, 1], [0, 0]]
