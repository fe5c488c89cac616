"""What a converter wrote where the scanner saw nothing is neither tissue nor glass."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data.filling import find_filling, straight_share

CELL_MM2 = 64e-6


def section(glass: int, shape: tuple[int, int] = (200, 240)) -> NDArray[np.uint8]:
    """Return an overview of a round, ragged piece of tissue on glass of one grey, with a little noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(shape)
    ragged = cv2.GaussianBlur(rng.normal(0, 40, shape).astype(np.float32), (0, 0), 3) * 3
    tissue = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) + ragged < 70
    rgb = np.full((*shape, 3), glass, float) + rng.normal(0, 1, (*shape, 1)) * (glass < 255)
    rgb[tissue] = (200, 120, 160)
    return np.clip(rgb, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("glass", [240, 200, 170])
def test_filling_beside_any_glass_is_found(glass: int, colour: int) -> None:
    """Regression: white was the glass beside dim glass, and on a large canvas; black was tissue beside dim glass."""
    canvas = np.full((500, 600, 3), colour, np.uint8)
    canvas[100:300, 200:440] = section(glass)
    found = find_filling(canvas, CELL_MM2)
    assert found[:100].all()
    assert found[:, :200].all()
    assert not found[104:296, 204:436].any()


def test_glass_in_saturated_light_is_no_filling() -> None:
    assert not find_filling(section(255), CELL_MM2).any()


def test_a_saturated_stripe_across_the_tissue_is_no_filling() -> None:
    """Regression: stripes of a line scanner took tissue with them, and moved the colour of the glass."""
    rgb = section(240)
    stripe = rgb[:, 180:193].astype(float) * 1.08
    rgb[:, 180:193] = np.clip(stripe, 0, 255)
    assert not find_filling(rgb, CELL_MM2).any()


def test_a_field_that_is_dark_throughout_is_no_filling() -> None:
    dark = 255 - section(255)
    assert not find_filling(dark, CELL_MM2).any()


def test_white_inside_a_slide_is_no_filling() -> None:
    rgb = section(240)
    rgb[90:130, 100:140] = 255
    assert not find_filling(rgb, CELL_MM2).any()


def test_how_much_of_an_edge_is_straight() -> None:
    box = np.zeros((100, 100), bool)
    assert straight_share(box) == 0
    box[30:70, 30:70] = True
    assert straight_share(box) == 1
    assert straight_share(box[30:, 30:]) == 1  # in a corner: only what is no border of the picture counts
    rows, columns = np.indices(box.shape)
    assert straight_share(np.hypot(rows - 50, columns - 50) < 40) < 0.3
    assert straight_share(np.ones((5, 5), bool)) == 0
