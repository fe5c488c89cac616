"""Disturbances of colour do exactly what their numbers say, measured in optical density."""

import cv2
import numpy as np
import pytest

from histo.errors import UsageError
from histo.phantom.recipe import Stain, draw_stain
from histo.stress.colour import SCANNERS, tilted
from histo.stress.disturb import DISTURBANCES, disturb
from histo.stress.picture import Picture, basis_of, density, light


def amounts_of(picture: Picture, basis: np.ndarray | None = None) -> np.ndarray:
    """Return the mean amount of haematoxylin, eosin and the rest."""
    od = density(picture.rgb, picture.stain.white).reshape(-1, 3)
    return np.asarray((od @ np.linalg.inv(picture.basis if basis is None else basis)).mean(axis=0))


def stained(stain: Stain, h: float = 0.5, e: float = 0.6, side: int = 64) -> Picture:
    """Return a picture of one colour with known amounts of both stains."""
    basis = basis_of(stain.haematoxylin, stain.eosin)
    rgb = light(np.broadcast_to(h * basis[0] + e * basis[1], (side, side, 3)).astype(np.float32), stain.white)
    return Picture(rgb, 0.5, stain, 0.5)


@pytest.mark.parametrize("gain", [0.5, 0.7, 1.4, 2.0])
@pytest.mark.parametrize("dye", ["haematoxylin", "eosin"])
def test_gain_multiplies_one_stain_and_leaves_the_other(dye, gain, stain):
    picture = stained(stain)
    before, after = (
        amounts_of(p) for p in (picture, disturb(picture, "stain_gain", {"stain": dye, "gain": gain}, "s"))
    )
    wanted = before.copy()
    wanted[("haematoxylin", "eosin").index(dye)] *= gain
    assert after == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("degrees", [4.0, 8.0, 12.0])
def test_angle_turns_a_direction_by_what_is_asked(degrees, stain):
    rng = np.random.default_rng(3)
    vector = basis_of(stain.haematoxylin, stain.eosin)[0]
    for _ in range(5):
        turned = tilted(vector, degrees, rng)
        assert np.degrees(np.arccos(turned @ vector)) == pytest.approx(degrees, abs=1e-3)
        assert turned.min() > 0.02


def test_angle_keeps_amounts_in_the_turned_directions(stain):
    picture = stained(stain, 0.7, 0.0)
    turned = disturb(picture, "stain_angle", {"degrees": 12.0}, "s")
    before, after = (density(p.rgb, stain.white).reshape(-1, 3).mean(axis=0) for p in (picture, turned))
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(12, abs=0.7)
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.03)


def test_swap_shows_the_same_amounts_in_the_others_directions(stain):
    other = draw_stain(77, 77, "shift")
    picture = stained(stain)
    swapped = disturb(picture, "stain_swap", {"haematoxylin": other.haematoxylin, "eosin": other.eosin}, "s")
    after = amounts_of(swapped, basis_of(other.haematoxylin, other.eosin))
    assert after == pytest.approx(amounts_of(picture), abs=0.02)


def test_gray_has_luminance_alone(textured):
    picture = textured()
    found = disturb(picture, "gray", {}, "s").rgb
    assert (found == found[..., :1]).all()
    assert np.array_equal(found[..., 0], cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY))


def test_shuffling_keeps_each_tiles_pixels_and_loses_their_places(textured):
    picture = textured(500)
    found = disturb(picture, "colour_only", {}, "s").rgb
    assert not np.array_equal(found, picture.rgb)
    for y in (0, 224, 448):  # tiles of 112 µm at 0.5 µm, the last ones cut
        for x in (0, 224, 448):
            before, after = (np.sort(p[y : y + 224, x : x + 224].reshape(-1, 3), axis=0) for p in (picture.rgb, found))
            assert np.array_equal(before, after)


def test_hue_is_turned_by_degrees(stain):
    red = np.full((8, 8, 3), (200, 40, 40), np.uint8)
    found = disturb(Picture(red, 0.5, stain, 0.5), "hue_rotate", {"degrees": 120.0}, "s").rgb
    assert found[0, 0].tolist() == [40, 200, 40]


def test_exposure_multiplies_channels_and_applies_gamma(stain):
    picture = Picture(np.full((4, 4, 3), 100, np.uint8), 0.5, stain, 0.5)
    assert disturb(picture, "exposure", {"red": 1.1, "blue": 0.9}, "s").rgb[0, 0].tolist() == [110, 100, 90]
    bright = disturb(picture, "exposure", {"gamma": 0.8}, "s").rgb[0, 0, 0]
    assert bright == round(255 * (100 / 255) ** 0.8)


@pytest.mark.parametrize("name", SCANNERS)
def test_a_scanner_leaves_grey_grey_and_changes_the_rest(name, stain, textured):
    grey = Picture(np.full((32, 32, 3), 128, np.uint8), 0.5, stain, 0.5)
    level = disturb(grey, "scanner", {"name": name}, "s").rgb[16, 16].astype(int)
    assert np.ptp(level) <= 14
    assert not np.array_equal(disturb(textured(), "scanner", {"name": name}, "s").rgb, textured().rgb)


def test_equal_seeds_give_equal_pixels_and_others_do_not(textured):
    one, two, other = (disturb(textured(), "colour_only", {}, seed).rgb for seed in ("a", "a", "b"))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_an_unknown_disturbance_is_told(textured):
    with pytest.raises(UsageError, match="choose one of clean"):
        disturb(textured(), "melt", {}, "s")
    assert len(DISTURBANCES) == 23
