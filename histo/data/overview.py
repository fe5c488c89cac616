"""The overview: the whole scanned area at a few µm per pixel, read in blocks so that memory stays bounded."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.filling import find_filling
from histo.data.slide import MAX_READ_PX, Slide
from histo.errors import SlideFailed
from histo.geometry import SAME_SCALE, MapGrid, Pyramid, cover, round_px
from histo.results import Overview

OVERVIEW_MPP = 8.0
MAX_OVERVIEW_PX = 2**22
_BLOCK_READ_PX = 2048
_SMALLEST_READ_PX = 128
_MAX_FAILURES = 1000  # every failed read opens the file again


@dataclass(frozen=True)
class _Block:
    row: int
    column: int
    high: int
    wide: int

    @property
    def cells(self) -> tuple[slice, slice]:
        return np.s_[self.row : self.row + self.high, self.column : self.column + self.wide]

    def quarters(self) -> Iterator["_Block"]:
        """Yield the block's quarters, or its halves where it is one cell high or wide."""
        up, left = (self.high + 1) // 2, (self.wide + 1) // 2
        for row, high in ((0, up), (up, self.high - up)):
            for column, wide in ((0, left), (left, self.wide - left)):
                if high and wide:
                    yield _Block(self.row + row, self.column + column, high, wide)


def read_overview(slide: Slide, mpp: float = OVERVIEW_MPP) -> tuple[Overview, NDArray[np.bool_]]:
    """Return the overview at about `mpp` and a mask (H, W) of what could not be read (white in the picture).

    Pixels are exact averages over k x k pixels of the coarsest level that is fine enough; a block that fails is
    read again in quarters, so that only the damaged spot is lost. Black filling is white, as transparency is. Label and
    macro images are never touched.
    Raises `SlideFailed` (`unreadable`) when nothing at all can be read.
    """
    level, k, grid = _lattice(slide.pyramid, mpp)
    rows, columns = grid.shape
    rgb = np.full((rows, columns, 3), 255, np.uint8)
    lost, scanned = np.zeros(grid.shape, bool), np.ones(grid.shape, bool)
    step = max(1, _BLOCK_READ_PX // k)
    waiting = [
        _Block(row, column, min(step, rows - row), min(step, columns - column))
        for row in reversed(range(0, rows, step))
        for column in reversed(range(0, columns, step))
    ]
    failures = 0
    while waiting:
        block = waiting.pop()
        try:
            rgb[block.cells], scanned[block.cells] = _read(slide, block, level, k, grid)
        except SlideFailed:
            failures += 1
            side = max(block.high, block.wide)
            if side > 1 and side * k > _SMALLEST_READ_PX and failures < _MAX_FAILURES:
                waiting += block.quarters()
            else:
                lost[block.cells], scanned[block.cells] = True, False
    if lost.all():
        raise SlideFailed("unreadable", f"{slide.path} opens, but no part of it can be read; copy or scan it again")
    filling = find_filling(rgb, grid.cell_mm2)
    rgb[filling], scanned[filling] = 255, False
    return Overview(rgb, grid, None if scanned.all() else scanned), lost


def _read(
    slide: Slide, block: _Block, level: int, k: int, grid: MapGrid
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the picture (h, w, 3) of a block, and which of its cells were wholly scanned (h, w)."""
    x, y = grid.to_level0_px(np.array([[block.column, block.row]], float))[0]
    corner, size = (round_px(x), round_px(y)), (block.wide * k, block.high * k)
    rgb, opacity = slide.read_with_opacity(corner, level, size)
    if k > 1:
        cells = (block.wide, block.high)
        rgb, opacity = (
            np.asarray(cv2.resize(p, cells, interpolation=cv2.INTER_AREA), np.uint8) for p in (rgb, opacity)
        )
    return rgb, opacity == 255


def _lattice(pyramid: Pyramid, mpp: float) -> tuple[int, int, MapGrid]:
    scale = max(pyramid.mpp_x, pyramid.mpp_y)
    _, _, width, height = pyramid.bounds_level0_px
    # A huge slide gets a coarser overview rather than a huge picture.
    mpp = max(mpp, scale * (width * height / MAX_OVERVIEW_PX) ** 0.5)
    fine_enough = [i for i, d in enumerate(pyramid.downsamples) if scale * d <= mpp * (1 + SAME_SCALE)]
    level = max(fine_enough, key=lambda i: pyramid.downsamples[i], default=0)
    down = pyramid.downsamples[level]
    k = max(1, min(round_px(mpp / (scale * down)), int(MAX_READ_PX**0.5)))
    return level, k, cover(pyramid, (down * k, down * k))
