"""Every slide reaches the network at the density that its model knows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.stain_norm import AS_THEY_ARE, MOST_GAIN, NormalisedReader, stain_norm_for, stain_norm_of
from histo.data.tissue import Tissue
from histo.geometry import MapGrid, ReadPlan
from histo.results import Overview

WANTED = (0.22, 0.60, 0.36)
GLASS = np.array([245.0, 243.0, 246.0])


def pixels(od: np.ndarray, glass: np.ndarray = GLASS) -> np.ndarray:
    return np.clip(np.round(glass * np.exp(-od)), 1, 255).astype(np.uint8)


def tissue_like(gain: np.ndarray | float = 1.0, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.exp(rng.normal(0, 0.4, (count, 3))) * np.array([0.25, 0.55, 0.35]) * gain


def median_od(rgb: np.ndarray) -> np.ndarray:
    return np.median(np.log(240.0) - np.log(np.maximum(rgb, 1.0)), axis=0)


@given(gain=st.floats(0.4, 2.5), hue=st.floats(-0.2, 0.2))
def test_tissue_comes_to_the_wanted_density_however_it_was_stained(gain, hue):
    rgb = pixels(tissue_like(gain * np.array([1 + hue, 1.0, 1 - hue])))
    normalised = stain_norm_for(rgb, GLASS, WANTED).apply(rgb[None])[0]
    assert median_od(normalised) == pytest.approx(WANTED, abs=0.03)


def test_two_stains_of_one_tissue_look_alike_afterwards():
    pale, dark = (pixels(tissue_like(gain)) for gain in (0.6, 1.5))
    a, b = (stain_norm_for(rgb, GLASS, WANTED).apply(rgb[None])[0].astype(int) for rgb in (pale, dark))
    assert np.abs(pale.astype(int) - dark).mean() > 30
    assert np.abs(a - b).mean() < 4


def test_a_grey_slide_stays_grey():
    rgb = np.repeat(pixels(tissue_like())[:, 1:2], 3, axis=1)
    normalised = stain_norm_for(rgb, np.full(3, 244.0), WANTED).apply(rgb[None])[0]
    assert np.ptp(normalised.astype(int), axis=1).max() == 0


def test_gains_are_bounded_so_that_noise_is_not_stretched_into_texture():
    faint = pixels(np.full((500, 3), 0.1) * np.array([0.4, 1.0, 0.6]))
    normalised = stain_norm_for(faint, GLASS, (2.0, 2.0, 2.0)).apply(faint[None])[0]
    assert median_od(normalised)[1] == pytest.approx(MOST_GAIN * 0.1, rel=0.1)


def test_slides_without_stain_and_models_without_a_norm_keep_their_pixels():
    glass = np.full((500, 3), 244, np.uint8)
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), (10, 10), (8.0, 8.0))
    overview = Overview(np.full((10, 10, 3), 150, np.uint8), grid)
    all_of_it = Tissue(np.ones((10, 10), bool), np.zeros((10, 10), bool))
    nothing = Tissue(np.zeros((10, 10), bool), np.zeros((10, 10), bool))
    assert stain_norm_for(glass, GLASS, WANTED) is AS_THEY_ARE
    assert stain_norm_of(overview, all_of_it, None) is AS_THEY_ARE
    assert stain_norm_of(overview, nothing, WANTED) is AS_THEY_ARE
    assert stain_norm_of(overview, all_of_it, WANTED).table is not None


def test_ink_does_not_move_the_norm():
    rng = np.random.default_rng(0)
    rgb = pixels(tissue_like(count=400)).reshape(20, 20, 3)
    rgb[:8] = rng.integers(0, 40, (8, 20, 3))
    excluded = np.zeros((20, 20), bool)
    excluded[:8] = True
    grid = MapGrid((0.0, 0.0), (16.0, 16.0), (20, 20), (8.0, 8.0))
    with_ink = stain_norm_of(Overview(rgb, grid), Tissue(np.ones((20, 20), bool), excluded), WANTED)
    without = stain_norm_of(Overview(rgb[8:], grid), Tissue(np.ones((12, 20), bool), excluded[8:]), WANTED)
    assert np.array_equal(with_ink.table, without.table)


def test_a_reader_gives_normalised_tiles_whatever_their_shape():
    class Same:
        def read_tile(self, position_level0_px, plan):
            return np.full((8, 8, 3), 120, np.uint8)

    norm = stain_norm_for(pixels(tissue_like()), GLASS, WANTED)
    one = NormalisedReader(Same(), norm).read_tile((0, 0), ReadPlan(0, (8, 8), 8, (1.0, 1.0)))
    batch = norm.apply(np.full((2, 8, 8, 3), 120, np.uint8))
    assert np.array_equal(batch[0], one)
    assert np.array_equal(norm.apply(np.empty((0, 8, 8, 3), np.uint8)), np.empty((0, 8, 8, 3), np.uint8))
