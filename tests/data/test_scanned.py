import numpy as np
import pytest

from histo.data.scanned import left_out
from histo.geometry import MapGrid, Pyramid
from histo.results import Overview


def overview_of(scanned: np.ndarray) -> tuple[Overview, Pyramid]:
    """Cells of 16 px over a slide of 100 x 60 px: the last column and row reach past its border."""
    pyramid = Pyramid((100, 60), (1.0,), 0.5, 0.5, "recorded", (0, 0, 100, 60))
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), scanned.shape, (8.0, 8.0))
    return Overview(np.full((*scanned.shape, 3), 240, np.uint8), grid, scanned), pyramid


def test_cells_across_the_border_of_an_intact_slide_are_not_left_out() -> None:
    """Regression: `histo inspect` said of every slide of 3000 px that 1 % of it was left out by the scanner."""
    scanned = np.ones((4, 7), bool)
    scanned[-1], scanned[:, -1] = False, False
    assert left_out(*overview_of(scanned)) == 0


def test_what_is_left_out_is_a_share_of_the_cells_within() -> None:
    scanned = np.ones((4, 7), bool)
    scanned[:3, :2] = False
    assert left_out(*overview_of(scanned)) == pytest.approx(1 / 3)
