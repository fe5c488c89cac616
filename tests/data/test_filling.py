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


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("turns", range(4))
def test_a_strip_of_filling_along_any_border_is_found_with_a_rim_of_two_cells(turns: int, colour: int) -> None:
    rgb, wanted = section(240), np.zeros((200, 240), bool)
    rgb[60:150, :30] = colour
    wanted[58:152, :32] = True
    found = find_filling(np.rot90(rgb, turns).copy(), CELL_MM2)
    np.testing.assert_array_equal(np.rot90(found, -turns), wanted)


def test_a_speck_of_black_at_the_border_is_no_filling() -> None:
    rgb = section(240)
    rgb[:27, :28] = 0  # 0.048 mm²
    assert not find_filling(rgb, CELL_MM2).any()
    rgb[:28, :28] = 0  # 0.0502 mm²
    assert find_filling(rgb, CELL_MM2)[:28, :28].all()


def test_a_deep_colour_is_not_black() -> None:
    rgb = section(240)
    rgb[:, :40] = (0, 60, 160)
    assert not find_filling(rgb, CELL_MM2).any()


def test_a_small_round_scan_on_a_black_canvas_is_told_by_its_own_glass() -> None:
    rows, columns = np.indices((400, 400))
    far = np.hypot(rows - 200, columns - 200)
    rgb = np.zeros((400, 400, 3), np.uint8)
    rgb[far < 40] = 240
    rgb[far < 20] = (200, 120, 160)
    found = find_filling(rgb, CELL_MM2)
    assert found[far > 42].all()
    assert not found[far < 36].any()


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


def test_an_edge_is_straight_from_24_cells_on() -> None:
    box = np.zeros((60, 70), bool)
    box[10:33, 20:44] = True
    assert straight_share(box) == straight_share(box.T) == 2 * 24 / (2 * 24 + 2 * 23)
