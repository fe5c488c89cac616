"""A faster reader for TIFF and SVS files made of JPEG blocks, used only where it gives OpenSlide's very pixels.

OpenSlide decodes what a read touches, again for every read, and hands over premultiplied RGBA. Here every block of the
file is decoded once, by a libjpeg-turbo that raises on the warnings that OpenSlide fails on, and kept while a tile
still needs it. What cannot be decoded is left to OpenSlide, which decides whether the tile is lost.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.blocks import blocks_under, paste_block, whole_read_px
from histo.data.slide import Rgb, Slide, reduced
from histo.data.tile_sample import spread
from histo.errors import SlideFailed
from histo.geometry import ReadPlan, TileGrid

log = logging.getLogger("histo")

BUDGET_BYTES = 96 * 2**20  # blocks waiting for their last tile; beyond it the oldest are decoded again at need
MAX_BLOCK_PX = 2**22
CHECKED_TILES = 4
_JPEG, _RGB, _YCBCR = 7, 2, 6
_ADOBE = bytes.fromhex("ffee000e") + b"Adobe" + bytes.fromhex("0064 0000 0000 00")  # the last byte names the colours
VENDORS = ("aperio", "generic-tiff")  # formats whose levels are plain mosaics of their blocks


class NotThisFile(Exception):
    """Why a file is left to OpenSlide."""


@dataclass(frozen=True)
class _Level:
    """Where the blocks of one level lie in the file, and how they are decoded."""

    size_read_px: tuple[int, int]
    block_px: tuple[int, int]
    blocks: tuple[int, int]
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    head: bytes  # what every block's stream begins with: colour marker and shared tables


class TiffBlocks:
    """Reads the tiles of one grid; `read_tile` gives what `Slide.read_tile` would, from any thread."""

    def __init__(self, slide: Slide, grid: TileGrid, level: _Level) -> None:
        """Raise `NotThisFile` for a grid that falls between the level's pixels, `ImportError` without the extra."""
        import simplejpeg

        self._decode: Callable[..., Rgb] = simplejpeg.decode_jpeg
        self.slide = slide
        self._plan = grid.plan
        self._down = slide.pyramid.downsamples[grid.plan.level]
        corners = whole_read_px(grid.positions_level0_px, self._down)
        if corners is None:
            raise NotThisFile("its tiles fall between the pixels of the level")
        self._level = level
        self._kept = _Kept(self._uses(corners), BUDGET_BYTES // (3 * self._level.block_px[0] * self._level.block_px[1]))
        self._file = os.open(slide.path, os.O_RDONLY)

    def __enter__(self) -> "TiffBlocks":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> Rgb:
        """Read one square tile (S, S, 3) uint8 as the plan says. Raises `SlideFailed` as `Slide.read_tile` does."""
        corner = whole_read_px(np.array([position_level0_px]), self._down)
        if plan != self._plan or corner is None:
            return self.slide.read_tile(position_level0_px, plan)
        try:
            region = self._region((int(corner[0, 0]), int(corner[0, 1])), plan.size_read_px)
        except (ValueError, OSError):
            return self.slide.read_tile(position_level0_px, plan)
        return reduced(region, plan.size_tile_px)

    def _region(self, corner_read_px: tuple[int, int], size_read_px: tuple[int, int]) -> Rgb:
        level = self._level
        rows, columns = blocks_under(corner_read_px, size_read_px, level.block_px, level.blocks)
        numbers = [row * level.blocks[1] + column for row in rows for column in columns]
        width, height = size_read_px
        canvas = np.empty((height, width, 3), np.uint8)
        if not self._inside(corner_read_px, size_read_px):
            canvas[:] = self.slide.background
        try:
            for number in numbers:
                row, column = divmod(number, level.blocks[1])
                x, y = column * level.block_px[0], row * level.block_px[1]
                picture = (
                    min(level.block_px[0], level.size_read_px[0] - x),
                    min(level.block_px[1], level.size_read_px[1] - y),
                )
                block = self._kept.take(number, self._block)
                paste_block(canvas, block, (x - corner_read_px[0], y - corner_read_px[1]), picture)
        finally:
            self._kept.release(numbers)
        return canvas

    def _inside(self, corner_read_px: tuple[int, int], size_read_px: tuple[int, int]) -> bool:
        ends = zip(corner_read_px, size_read_px, self._level.size_read_px, strict=True)
        return all(at >= 0 and at + size <= whole for at, size, whole in ends)

    def _block(self, number: int) -> Rgb:
        """Decode one block. Raises `ValueError` for damage, a warning of the decoder or a wrong size."""
        level = self._level
        stream = os.pread(self._file, level.lengths[number], level.offsets[number])
        width, height = level.block_px
        if len(stream) != level.lengths[number] or stream[:2] != b"\xff\xd8":
            raise ValueError("no JPEG stream")
        block = self._decode(level.head + stream[2:], colorspace="RGB", strict=True)
        if block.shape != (height, width, 3):
            raise ValueError(f"a block of {block.shape}")
        return block

    def _uses(self, corners_read_px: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count for every block the tiles that will ask for it."""
        level = self._level
        uses = np.zeros(level.blocks, np.int64)
        for x, y in corners_read_px.tolist():
            rows, columns = blocks_under((x, y), self._plan.size_read_px, level.block_px, level.blocks)
            uses[rows.start : rows.stop, columns.start : columns.stop] += 1
        return uses.ravel()


class _Kept:
    """Blocks that tiles still need, each decoded by the first thread that asks while the others wait for it."""

    def __init__(self, uses: NDArray[np.int64], most: int) -> None:
        self._uses, self._most = uses, max(most, 16)
        self._blocks: OrderedDict[int, Future[Rgb]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, number: int, decode: Callable[[int], Rgb]) -> Rgb:
        with self._lock:
            block = self._blocks.get(number)
            mine = block is None
            if block is None:
                block = self._blocks[number] = Future()
                while len(self._blocks) > self._most:
                    self._blocks.popitem(last=False)
        if mine:
            try:
                block.set_result(decode(number))
            except BaseException as error:
                block.set_exception(error)
        return block.result()

    def release(self, numbers: list[int]) -> None:
        with self._lock:
            for number in numbers:
                self._uses[number] -= 1
                # Of tiles that nobody announced the count falls below zero: their blocks wait for the budget.
                if self._uses[number] == 0:
                    self._blocks.pop(number, None)


def open_blocks(slide: Slide, grid: TileGrid) -> TiffBlocks | None:
    """Return the fast reader if this file suits it and a few of the grid's tiles equal OpenSlide's, else None.

    Why not is a line in the log. Without a tile to compare there is none.
    """
    if not len(grid):
        return None
    try:
        level = _level(slide, grid.plan.level)
        sample = grid.some(spread(len(grid), CHECKED_TILES))
        with TiffBlocks(slide, sample, level) as probe:
            _compare(probe, slide, sample)
        return TiffBlocks(slide, grid, level)
    except ImportError:
        log.info("%s is read by OpenSlide: simplejpeg (extra fast) is not installed", slide.path)
    except (NotThisFile, OSError) as why:
        log.info("%s is read by OpenSlide: %s", slide.path, why)
    return None


def _compare(blocks: TiffBlocks, slide: Slide, grid: TileGrid) -> None:
    for x, y in grid.positions_level0_px.tolist():
        try:
            wanted = slide.read_tile((x, y), grid.plan)
        except SlideFailed:
            continue  # a damaged spot says nothing of how the others are decoded
        if not np.array_equal(blocks.read_tile((x, y), grid.plan), wanted):
            raise NotThisFile(f"the fast reader gives other pixels at {(x, y)}")


def _level(slide: Slide, number: int) -> _Level:
    import tifffile

    if slide.vendor not in VENDORS:
        raise NotThisFile(f"{slide.vendor or 'its format'} is not made of plain JPEG blocks")
    size = slide.level_size_read_px(number)
    try:
        with tifffile.TiffFile(slide.path) as file:
            pages = [page for page in file.pages if _fits(page, size)]
            if len(pages) != 1:
                raise NotThisFile(f"it has {len(pages)} directories of JPEG blocks for level {number}")
            page: Any = pages[0]
            return _Level(
                size,
                (page.tilewidth, page.tilelength),
                (-(-size[1] // page.tilelength), -(-size[0] // page.tilewidth)),
                tuple(page.dataoffsets),
                tuple(page.databytecounts),
                _head(page),
            )
    except NotThisFile:
        raise
    except Exception as error:  # an odd tag in any directory makes tifffile raise anything at all
        raise NotThisFile(f"tifffile cannot read it ({error})") from error


def _fits(page: Any, size_read_px: tuple[int, int]) -> bool:
    return bool(
        page.is_tiled
        and (page.imagewidth, page.imagelength) == size_read_px
        and page.compression == _JPEG
        and page.photometric in (_RGB, _YCBCR)
        and (page.samplesperpixel, page.bitspersample, page.planarconfig) == (3, 8, 1)
        and page.tilewidth * page.tilelength <= MAX_BLOCK_PX
        and len(page.dataoffsets) == len(page.databytecounts)
        and len(page.dataoffsets) == -(-size_read_px[0] // page.tilewidth) * -(-size_read_px[1] // page.tilelength)
        and all(page.databytecounts)  # what stands for a missing block is OpenSlide's to say
    )


def _head(page: Any) -> bytes:
    """Return the start of every block's stream: an Adobe marker, which names the colours, and the shared tables."""
    tables: bytes = page.jpegtables or b"\xff\xd8\xff\xd9"
    adobe = _ADOBE[:-1] + bytes([int(page.photometric == _YCBCR)])
    return tables[:2] + adobe + tables[2:-2]
