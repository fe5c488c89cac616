import cv2
import numpy as np
import pytest

from histo.export.colour import STEPS, VISIBLE_FROM, blend, colour_bar, rgba, scale
from histo.export.layers import paled

COLOURS = [(20, 120, 140), (150, 40, 160), (200, 80, 30), (0, 0, 0)]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_scale_is_even_in_lightness(colour):
    table = scale(colour)
    lightness = cv2.cvtColor(table[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, :, 0]
    assert table.shape == (STEPS, 3)
    assert tuple(table[0]) == (255, 255, 255)
    assert tuple(table[-1]) == colour
    np.testing.assert_allclose(lightness, np.linspace(lightness[0], lightness[-1], STEPS), atol=1.0)


def test_opacity_starts_above_the_visible_limit_and_is_then_the_same_for_all():
    out = rgba(np.linspace(0, 1, 101), (20, 120, 140))
    alpha = out[:, 3].astype(int)
    assert not alpha[: round(VISIBLE_FROM * 100) + 1].any()
    assert (np.diff(alpha[10:26]) > 0).all()
    assert len(set(alpha[25:])) == 1
    assert tuple(out[-1, :3]) == (20, 120, 140)


@pytest.mark.parametrize("tissue", [(240, 235, 240), (214, 150, 190), (120, 60, 140), (60, 30, 60)])
@pytest.mark.parametrize("colour", COLOURS[:3])
def test_a_probability_can_be_read_off_the_bar_on_any_tissue(colour, tissue):
    """Regression: on stained tissue 0.35 had the colour of 0.74 on the bar, for weak heat let the tissue through."""
    told = np.linspace(0.25, 1, 16)
    ground = paled(np.full((1, len(told), 3), tissue, np.uint8))[0]
    shown, bar = (_lab(rgb) for rgb in (blend(ground, rgba(told, colour)), colour_bar(colour, 256, 1)[0]))
    read = np.linalg.norm(shown[:, None] - bar[None], axis=-1).argmin(axis=1) / 255
    assert np.abs(read - told).max() < 0.16


def _lab(rgb):
    return cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]


def test_the_scale_does_not_depend_on_the_slides_own_range():
    faint, strong = np.array([0.2, 0.3]), np.array([0.2, 0.3, 0.99])
    np.testing.assert_array_equal(rgba(faint, (9, 9, 90)), rgba(strong, (9, 9, 90))[:2])


def test_what_is_no_number_or_out_of_range_is_clipped():
    out = rgba(np.array([np.nan, -1.0, 2.0]), (20, 120, 140))
    np.testing.assert_array_equal(out[:, 3] > 0, [False, False, True])


def test_the_legend_is_the_colour_that_the_map_has_over_white():
    bar = colour_bar((150, 40, 160), 101, 4)
    np.testing.assert_array_equal(
        bar[2, 70], blend(np.full((1, 3), 255, np.uint8), rgba(np.array([0.7]), (150, 40, 160)))[0]
    )
