"""Which tiles of a slide are kept to judge it by."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.data.tile_sample import GLANCE, LEAST, MOSTLY, TileSample, fullest, usable

SHARES = st.lists(st.floats(0, 1), max_size=300).map(np.array)


@given(SHARES)
def test_a_glance_goes_from_the_first_to_the_last_tile_of_the_sample(shares: NDArray[np.float64]) -> None:
    sample = TileSample.of(shares)
    chosen, looked = sorted(sample.chosen), sample.glance.tolist()
    assert set(looked) <= set(chosen)
    assert len(looked) == min(GLANCE, len(chosen))
    assert looked == sorted(looked)
    assert (looked[:1], looked[-1:]) == (chosen[:1], chosen[-1:])


@given(SHARES)
def test_a_sample_is_of_tiles_that_are_mostly_tissue_where_there_are_enough(shares: NDArray[np.float64]) -> None:
    chosen = sorted(TileSample.of(shares).chosen)
    full = np.flatnonzero(shares >= MOSTLY)
    assert bool(chosen) == bool(len(shares))
    if len(full) >= LEAST:
        assert set(chosen) <= set(full.tolist())


def test_a_sample_is_spread_over_the_tiles_that_are_mostly_tissue() -> None:
    shares = np.zeros(600)
    shares[100:500] = 0.9
    shares[300] = 0.1
    sample = TileSample.of(shares)
    assert len(sample.chosen) == 32
    assert min(sample.chosen) < 120
    assert max(sample.chosen) > 480
    assert all(shares[i] > 0.5 for i in sample.chosen)
    few = np.array([0.1, 0.0, 0.3, 0.2])
    assert set(fullest(few)) == {0, 1, 2, 3}
    assert len(TileSample.of(np.full(40, 1.0)).chosen) == LEAST
    assert TileSample.of(np.empty(0)).tiles.shape[0] == 0


def test_only_chosen_tiles_are_kept_in_order() -> None:
    sample = TileSample(frozenset({4, 1}))
    for index in (5, 4, 1):
        sample.take(np.array([index]), np.full((1, 2, 2, 3), index, np.uint8))
    assert sample.tiles[:, 0, 0, 0].tolist() == [1, 4]


def test_tissue_under_ink_is_no_tissue_unless_most_of_it_is() -> None:
    tissue = np.ones((2, 4), np.float32)
    some, most = (np.array([[1, 0, ink, ink], [0, 0, 0, ink]], np.float32) for ink in (0, 1))
    np.testing.assert_array_equal(usable(tissue, some), tissue - some)
    np.testing.assert_array_equal(usable(tissue, most), tissue)
