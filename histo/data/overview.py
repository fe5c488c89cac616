"""The overview: the whole scanned area at a few µm per pixel, read in blocks so that memory stays bounded."""

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.slide import MAX_READ_PX, Slide
from histo.errors import SlideFailed
from histo.geometry import MapGrid, Pyramid, cover
from histo.results import Overview

OVERVIEW_MPP = 8.0
MAX_OVERVIEW_PX = 2**23
_BLOCK_READ_PX = 2048


def read_overview(slide: Slide, mpp: float = OVERVIEW_MPP) -> tuple[Overview, NDArray[np.bool_]]:
    """Return the overview at about `mpp` and a mask (H, W) of what could not be read (white in the picture).

    Pixels are exact averages over k x k pixels of the coarsest level that is fine enough. Label and macro
    images are never touched. Raises `SlideFailed` (`unreadable`) when nothing at all can be read.
    """
    level, k, grid = _lattice(slide.pyramid, mpp)
    rows, columns = grid.shape
    rgb = np.full((rows, columns, 3), 255, np.uint8)
    lost = np.zeros(grid.shape, bool)
    failure: SlideFailed | None = None
    step = max(1, _BLOCK_READ_PX // k)
    for top in range(0, rows, step):
        for left in range(0, columns, step):
            high, wide = min(step, rows - top), min(step, columns - left)
            corner = grid.to_level0_px(np.array([[left, top]], float))[0]
            xy = int(np.floor(corner[0] + 0.5)), int(np.floor(corner[1] + 0.5))
            area = np.s_[top : top + high, left : left + wide]
            try:
                block = slide.read(xy, level, (wide * k, high * k))
            except SlideFailed as error:
                failure = error
                lost[area] = True
            else:
                rgb[area] = block if k == 1 else cv2.resize(block, (wide, high), interpolation=cv2.INTER_AREA)
    if failure is not None and lost.all():
        raise SlideFailed("unreadable", f"{slide.path} opens, but no part of it can be read; copy or scan it again")
    return Overview(rgb, grid), lost


def _lattice(pyramid: Pyramid, mpp: float) -> tuple[int, int, MapGrid]:
    scale = max(pyramid.mpp_x, pyramid.mpp_y)
    _, _, width, height = pyramid.bounds_level0_px
    # A huge slide gets a coarser overview rather than a huge picture.
    mpp = max(mpp, scale * (width * height / MAX_OVERVIEW_PX) ** 0.5)
    fine_enough = [i for i, d in enumerate(pyramid.downsamples) if scale * d <= mpp * 1.05]
    level = max(fine_enough, key=lambda i: pyramid.downsamples[i], default=0)
    down = pyramid.downsamples[level]
    k = max(1, min(round(mpp / (scale * down)), int(MAX_READ_PX**0.5)))
    return level, k, cover(pyramid, (down * k, down * k))
