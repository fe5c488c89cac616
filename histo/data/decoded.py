"""Slides decoded once: training draws the same tissue in every epoch, and decoding it anew would cost a fifth of it."""

import tempfile
from pathlib import Path

import numpy as np

from histo.data.slide import Rgb, Slide, reduced
from histo.geometry import ReadPlan, round_px

BLOCK_PX = 512
_CHANNELS = 3


class DecodedLevel:
    """One level of a slide, decoded block by block into a file when a block is first asked for.

    The file is sparse, has no name and goes with the process, however that ends. Forked processes share it: two that
    decode the same block write the same bytes.
    """

    def __init__(self, slide: Slide, level: int, folder: Path) -> None:
        self._slide, self._level = slide, level
        self._down = slide.pyramid.downsamples[level]
        width, height = (round_px(side / self._down) for side in slide.pyramid.size_level0_px)
        rows, columns = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
        # Opened unnamed: nothing is left to clean up, even after a kill.
        with tempfile.TemporaryFile(dir=folder) as file:
            shape = (rows * BLOCK_PX, columns * BLOCK_PX, _CHANNELS)
            self._pixels = np.memmap(file, np.uint8, "w+", shape=shape)
        with tempfile.TemporaryFile(dir=folder) as file:
            self._done = np.memmap(file, np.uint8, "w+", shape=(rows, columns))

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> Rgb:
        """Read one tile (S, S, 3) uint8 as `Slide.read_tile` does, its corner rounded to a pixel of the level.

        What is planned at another level is read from the slide.

        Raises `SlideFailed` (`unreadable`) where the file is damaged.
        """
        if plan.level != self._level:
            return self._slide.read_tile(position_level0_px, plan)
        left, top = (round_px(v / self._down) for v in position_level0_px)
        width, height = plan.size_read_px
        rows, columns = self._pixels.shape[:2]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, columns), min(top + height, rows)
        region = np.full((height, width, _CHANNELS), 255, np.uint8)
        if x0 < x1 and y0 < y1:
            self._decode(x0, y0, x1, y1)
            region[y0 - top : y1 - top, x0 - left : x1 - left] = self._pixels[y0:y1, x0:x1]
        return reduced(region, plan.size_tile_px)

    def _decode(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """Fill the blocks that a window of level pixels touches and that nobody has asked for yet."""
        for row in range(y0 // BLOCK_PX, -(-y1 // BLOCK_PX)):
            for column in range(x0 // BLOCK_PX, -(-x1 // BLOCK_PX)):
                if self._done[row, column]:
                    continue
                y, x = row * BLOCK_PX, column * BLOCK_PX
                corner = round_px(x * self._down), round_px(y * self._down)
                block = self._slide.read(corner, self._level, (BLOCK_PX, BLOCK_PX))
                self._pixels[y : y + BLOCK_PX, x : x + BLOCK_PX] = block
                self._done[row, column] = 1
