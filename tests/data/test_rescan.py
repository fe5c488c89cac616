"""A tile that goes through a darker or paler scan and back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from histo.data.rescan import rescan

TISSUE = np.full((64, 64, 3), (225, 170, 195), np.uint8)
CALCIUM = np.full((64, 64, 3), (40, 20, 90), np.uint8)


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_normalising_brings_tissue_back(seed: int) -> None:
    back = rescan(TISSUE, seed)
    assert back.shape == TISSUE.shape
    assert back.dtype == np.uint8
    # The steps of a pale scan are several levels wide; the scan itself differs by dozens.
    assert np.abs(back.mean(axis=(0, 1)) - TISSUE[0, 0]).max() < 16


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_same_seed_gives_the_same_tile(seed: int) -> None:
    assert (rescan(CALCIUM, seed) == rescan(CALCIUM, seed)).all()


def test_some_scans_clip_what_is_dark() -> None:
    # Three times as dense, green of 20 would be 0.12 levels: it comes back paler than it was.
    greens = [float(rescan(CALCIUM, seed)[..., 1].mean()) for seed in range(60)]
    assert max(greens) > 30
    assert min(greens) < 22
