"""Augmentation: the same seed gives the same result, and labels go where the picture goes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.config import AugmentConfig
from histo.data.labels import IGNORED
from histo.data.stain import jitter_stain
from histo.data.transforms import build_augmentation

Rgb = NDArray[np.uint8]
SIDE = 128
OFF = AugmentConfig(stain=0, grain=0, rescan=0, grey=0, light=0, scale=0, blur=0, noise=0, jpeg=0)
GEOMETRY = AugmentConfig(stain=0, grain=0, rescan=0, grey=0, light=0, scale=0.15, blur=0, noise=0, jpeg=0)
ALL = AugmentConfig()
GLASS, DERMIS = (244, 243, 245), (225, 170, 195)


def tile() -> tuple[Rgb, NDArray[np.uint8]]:
    """A dark square of class 1 and an ignored stripe, off-centre, whose colours say what they are."""
    rgb = np.full((SIDE, SIDE, 3), (240, 200, 220), np.uint8)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    rgb[30:70, 20:80] = (60, 20, 90)
    labels[30:70, 20:80] = 1
    rgb[90:110, 50:120] = (20, 220, 20)
    labels[90:110, 50:120] = IGNORED
    return rgb, labels


def from_colours(rgb: Rgb) -> NDArray[np.uint8]:
    colours = np.array([(240, 200, 220), (60, 20, 90), (20, 220, 20)], float)
    nearest = np.linalg.norm(rgb[..., None, :].astype(float) - colours, axis=-1).argmin(axis=-1)
    return np.array([0, 1, IGNORED], np.uint8)[nearest]


@pytest.mark.parametrize("config", [GEOMETRY, ALL, OFF], ids=["geometry", "all", "off"])
def test_the_same_seed_gives_the_same_tile_whatever_was_drawn_before(config: AugmentConfig) -> None:
    one, two = build_augmentation(config), build_augmentation(config)
    for seed in range(8):
        two(*tile(), 1000 + seed)
        first, second = one(*tile(), seed), two(*tile(), seed)
        assert (first[0] == second[0]).all()
        assert (first[1] == second[1]).all()


def test_other_seeds_give_other_tiles() -> None:
    augment = build_augmentation(ALL)
    assert len({augment(*tile(), seed)[0].tobytes() for seed in range(20)}) == 20


def test_the_global_random_state_is_neither_used_nor_moved() -> None:
    augment = build_augmentation(ALL)
    np.random.seed(0)  # noqa: NPY002  the global state is what this is about
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = augment(*tile(), 5)[0]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(9)  # noqa: NPY002
    assert (augment(*tile(), 5)[0] == first).all()


def test_labels_follow_the_picture() -> None:
    augment = build_augmentation(GEOMETRY)
    moved = 0
    for seed in range(60):
        rgb, labels = augment(*tile(), seed)
        # Interpolation blurs the picture's edges by about a pixel, the labels' not at all.
        assert (from_colours(rgb) != labels).mean() < 0.025
        moved += int((labels != tile()[1]).any())
    assert moved > 40


def test_symmetries_alone_move_labels_exactly_with_the_picture() -> None:
    augment = build_augmentation(OFF)
    seen = set()
    for seed in range(60):
        rgb, labels = augment(*tile(), seed)
        assert (from_colours(rgb) == labels).all()
        assert sorted(rgb.reshape(-1, 3).sum(axis=1)) == sorted(tile()[0].reshape(-1, 3).sum(axis=1))
        seen.add(labels.tobytes())
    assert len(seen) == 8


def test_only_labels_that_were_there_come_out() -> None:
    augment = build_augmentation(ALL)
    for seed in range(40):
        assert set(np.unique(augment(*tile(), seed)[1])) <= {0, 1, IGNORED}


def test_what_is_ignored_stays_ignored_and_nothing_else_becomes_so() -> None:
    augment = build_augmentation(ALL)
    rgb, labels = tile()
    for seed in range(40):
        assert (augment(rgb, np.full_like(labels, IGNORED), seed)[1] == IGNORED).all()
        assert (augment(rgb, np.zeros_like(labels), seed)[1] == 0).all()


def test_shape_and_type_stay() -> None:
    augment = build_augmentation(ALL)
    for seed in range(20):
        rgb, labels = augment(*tile(), seed)
        assert (rgb.shape, rgb.dtype) == ((SIDE, SIDE, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((SIDE, SIDE), np.uint8)


def test_the_given_arrays_are_left_alone() -> None:
    rgb, labels = tile()
    for config in (ALL, OFF):
        build_augmentation(config)(rgb, labels, 3)
    assert (rgb == tile()[0]).all()
    assert (labels == tile()[1]).all()


@pytest.mark.parametrize("name", ["stain", "grain", "rescan", "grey", "light", "blur", "noise", "jpeg"])
def test_every_strength_works_alone_and_changes_no_label(name: str) -> None:
    augment, plain = build_augmentation(OFF.model_copy(update={name: 1.0})), build_augmentation(OFF)
    changed = 0
    for seed in range(10):
        rgb, labels = augment(*tile(), seed)
        changed += int((rgb != plain(*tile(), seed)[0]).any())
        assert sorted(np.unique(labels, return_counts=True)[1]) == sorted(np.unique(tile()[1], return_counts=True)[1])
    assert changed >= 3


# Stain


def test_no_strength_is_the_picture_itself() -> None:
    rgb, _ = tile()
    assert jitter_stain(rgb, 0, 0, 3) is rgb


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_vanishing_strength_changes_nothing(seed: int) -> None:
    """Truncating instead of rounding would darken every tile by half a grey level."""
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.abs(jitter_stain(rgb, 1e-9, 0, seed).astype(int) - rgb).max() == 0


def test_glass_stays_nearly_glass_and_tissue_changes() -> None:
    glass, dermis = np.full((2, 2, 3), GLASS, np.uint8), np.full((2, 2, 3), DERMIS, np.uint8)
    moved = [np.abs(jitter_stain(glass, 0.25, 0, seed).astype(int) - glass).max() for seed in range(200)]
    stained = [np.abs(jitter_stain(dermis, 0.25, 0, seed).astype(int) - dermis).max() for seed in range(200)]
    assert np.median(moved) <= 12
    assert np.median(stained) > 1.5 * np.median(moved)


def test_stain_jitter_is_the_same_for_every_pixel_and_by_seed() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    whole = jitter_stain(rgb, 0.3, 0, 4)
    assert (jitter_stain(rgb[3:5, 2:7], 0.3, 0, 4) == whole[3:5, 2:7]).all()
    assert (jitter_stain(rgb, 0.3, 0, 5) != whole).any()


def test_no_colour_wraps_around() -> None:
    dark, bright = np.full((1, 1, 3), 3, np.uint8), np.full((1, 1, 3), 254, np.uint8)
    for seed in range(100):
        assert jitter_stain(dark, 0.25, 0, seed).max() < 128
        assert jitter_stain(bright, 0.25, 0, seed).min() > 128


def test_stain_jitter_favours_no_direction() -> None:
    """On the average of many draws a tile keeps its colour: training sees what inference sees."""
    rgb = np.array([[GLASS, DERMIS, (120, 60, 130), (60, 30, 95), (205, 95, 130), (60, 90, 200)]], np.uint8)
    mean = np.mean([jitter_stain(rgb, 0.05, 0, seed).astype(float) for seed in range(400)], axis=0)
    assert np.abs(mean - rgb).max() < 4
