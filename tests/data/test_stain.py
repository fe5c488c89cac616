"""The grain that is laid over optical density."""

import numpy as np

from histo.data.stain import jitter_stain

GLASS, DERMIS = (244, 243, 245), (225, 170, 195)


def test_grain_roughens_tissue_and_leaves_glass_alone() -> None:
    glass, dermis = (np.full((256, 256, 3), colour, np.uint8) for colour in (GLASS, DERMIS))
    rough = [float(jitter_stain(dermis, 0, 0.3, seed).std(axis=(0, 1)).mean()) for seed in range(40)]
    clean = [float(jitter_stain(glass, 0, 0.3, seed).std(axis=(0, 1)).mean()) for seed in range(40)]
    assert np.median(rough) > 5
    assert np.median(clean) < 0.25 * np.median(rough)


def test_grain_differs_from_seed_to_seed_in_place_scale_and_amount() -> None:
    dermis = np.full((96, 96, 3), DERMIS, np.uint8)
    assert len({jitter_stain(dermis, 0, 0.3, seed).tobytes() for seed in range(20)}) >= 19


def test_grain_keeps_the_mean_density() -> None:
    dermis = np.full((256, 256, 3), DERMIS, np.uint8)
    moved = [jitter_stain(dermis, 0, 0.2, seed).mean(axis=(0, 1)) - DERMIS for seed in range(40)]
    assert np.abs(np.mean(moved, axis=0)).max() < 4
