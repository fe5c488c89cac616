"""Every optical density is measured against the glass: it must be that of the slide, and of what was scanned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.data.glass import USUAL, glass_among, glass_of
from histo.geometry import MapGrid
from histo.results import Overview

Rgb = NDArray[np.uint8]
DERMIS = (225, 170, 195)
NEUTRAL = st.tuples(st.integers(222, 246), st.integers(-4, 4), st.integers(-4, 4)).map(
    lambda gdb: (gdb[0] + gdb[1], gdb[0], gdb[0] + gdb[2])
)


def pixels(*parts: tuple[tuple[int, int, int], int], noise: float = 1.0) -> Rgb:
    """Pixels (N, 3) of colours, that many of each."""
    rng = np.random.default_rng(0)
    rgb = np.concatenate([np.tile(np.array(colour, float), (count, 1)) for colour, count in parts])
    return np.clip(rgb + rng.normal(0, noise, (len(rgb), 1)), 0, 255).round().astype(np.uint8)


def white(count: int) -> Rgb:
    return np.full((count, 3), 255, np.uint8)


@given(NEUTRAL, st.integers(0, 3000))
def test_what_was_left_out_in_white_does_not_move_the_glass(colour: tuple[int, int, int], left_out: int) -> None:
    # Bug: pure white for more than half of what is bright was the glass, and what lay on the true one was tissue.
    found = glass_among(np.concatenate([pixels((colour, 1000), (DERMIS, 800)), white(left_out)]))
    assert found == pytest.approx(colour, abs=1)


def test_saturated_glass_beside_fat_is_white() -> None:
    fat = np.random.default_rng(1).integers(216, 255, (700, 1)) * np.ones((1, 3), int)
    assert glass_among(np.concatenate([fat.astype(np.uint8), white(1000)])) == pytest.approx(255)


@pytest.mark.parametrize(
    ("white_share", "colour", "noise"),
    [(0.7, (240, 220, 230), 6.0), (0.3, (240, 200, 215), 12.0), (0.5, (243, 212, 224), 6.0)],
)
def test_pale_tissue_beside_saturated_glass_is_no_glass(
    white_share: float, colour: tuple[int, int, int], noise: float
) -> None:
    # Bug: its brightest pixels are of one colour too, and taken for glass it had no density and was lost.
    count = round(10_000 * white_share)
    found = glass_among(np.concatenate([white(count), pixels((colour, 10_000 - count), noise=noise)]))
    assert found == pytest.approx(255)


def test_mucin_is_no_glass_where_brighter_glass_is_seen() -> None:
    rgb = pixels(((185, 180, 195), 6000), ((200, 120, 160), 3600), ((244, 243, 245), 400))
    assert glass_among(rgb) == pytest.approx((244, 243, 245), abs=1)


def test_what_the_scanner_left_out_is_no_glass() -> None:
    rgb = np.full((100, 100, 3), 255, np.uint8)
    rgb[:5] = (238, 231, 238)
    grid = MapGrid((0, 0), (16, 16), (100, 100), (8.0, 8.0))
    scanned = np.zeros((100, 100), bool)
    scanned[:5] = True
    assert glass_of(Overview(rgb, grid, scanned)) == pytest.approx((238, 231, 238))
    assert glass_of(Overview(rgb, grid)) == pytest.approx(255)


@pytest.mark.parametrize("colour", [(225, 220, 200), (212, 206, 214), (160, 158, 150)])
def test_glass_in_a_dim_or_yellowish_lamp_is_glass(colour: tuple[int, int, int]) -> None:
    assert glass_among(pixels((colour, 1000), ((180, 120, 150), 3000))) == pytest.approx(colour, abs=1)


@pytest.mark.parametrize("tissue", [DERMIS, (205, 95, 130), (38, 22, 58), (190, 165, 200)])
def test_tissue_alone_is_no_glass(tissue: tuple[int, int, int]) -> None:
    assert glass_among(pixels((tissue, 5000), noise=3)) == pytest.approx(USUAL)
    assert glass_among(np.empty((0, 3), np.uint8)) == pytest.approx(USUAL)


def test_a_grey_picture_of_tissue_without_glass_keeps_the_usual_one() -> None:
    grey = np.random.default_rng(0).integers(90, 210, (5000, 1)) * np.ones((1, 3), int)
    assert glass_among(grey.astype(np.uint8)) == pytest.approx(USUAL)


def test_glass_is_measured_once_a_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    monkeypatch.setattr("histo.data.glass.glass_among", lambda rgb: measured.append(len(rgb)) or np.full(3, 240.0))
    rgb = np.full((10, 12, 3), 240, np.uint8)
    one, other = (Overview(rgb, MapGrid((0, 0), (16, 16), (10, 12), (8, 8))) for _ in range(2))
    assert glass_of(one) is glass_of(one)
    assert not glass_of(other).flags.writeable
    assert measured == [120, 120]
