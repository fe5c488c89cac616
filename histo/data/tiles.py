"""Tiles of slides: what to read, reading it, and reading ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from histo.errors import SlideFailed
from histo.geometry import ReadPlan, TileGrid
from histo.timing import Timings

READ_AHEAD_BATCHES = 3
SAMPLE_TILES = 3  # real tiles on which engines must agree


class Reader(Protocol):
    """What tiles are read with: OpenSlide (`Slide`), or a faster reader that gives the same pixels."""

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> NDArray[np.uint8]:
        """Read one square tile (S, S, 3) uint8, from any thread. Raises `SlideFailed` where the file is damaged."""
        ...


@dataclass(frozen=True, eq=False)
class TileDataset:
    """The tiles of one slide at `positions_level0_px` (N, 2), read as `plan` says."""

    slide: Reader
    plan: ReadPlan
    positions_level0_px: NDArray[np.int64]

    @classmethod
    def of(cls, slide: Reader, grid: TileGrid) -> "TileDataset":
        """Return the data set of all tiles of a grid."""
        return cls(slide, grid.plan, grid.positions_level0_px)

    def __len__(self) -> int:
        return len(self.positions_level0_px)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | None:
        """Read tile `index` as (S, S, 3) uint8, or None where the file is damaged: a bad tile costs that tile."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        x, y = (int(v) for v in self.positions_level0_px[index])
        try:
            return self.slide.read_tile((x, y), self.plan)
        except SlideFailed:
            return None


def sample_tiles(slide: Reader, tiles: TileGrid) -> NDArray[np.uint8]:
    """Read a few tiles from all over the grid, (N, S, S, 3) uint8; damaged ones are left out."""
    data = TileDataset.of(slide, tiles)
    wanted = np.unique(np.linspace(0, len(data) - 1, SAMPLE_TILES + 2).astype(int)[1:-1])[: len(data)]
    side = tiles.plan.size_tile_px
    found = [tile for i in wanted.tolist() if (tile := data[i]) is not None]
    return np.stack(found) if found else np.empty((0, side, side, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Tiles that could be read, (B, S, S, 3) uint8, with their indices; and the indices that could not."""

    rgb: NDArray[np.uint8]
    indices: NDArray[np.int64]
    unreadable: NDArray[np.int64]


def stream_batches(
    tiles: TileDataset,
    batch_size: int,
    readers: int,
    timings: Timings | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> Iterator[TileBatch]:
    """Yield all tiles, or those with the given `numbers` (N,), in batches, with `readers` threads reading ahead.

    They come in order, and no more than a bounded number is held.

    Decoding releases the interpreter, so threads suffice, and no tile is ever copied between processes.
    """
    timings = timings or Timings()
    tile_bytes = 3 * tiles.plan.size_tile_px**2

    def read(index: int) -> NDArray[np.uint8] | None:
        with timings.stage("reading", tile_bytes):
            return tiles[index]

    wanted = range(len(tiles)) if numbers is None else numbers.tolist()
    with ThreadPoolExecutor(readers, thread_name_prefix="histo-read") as pool:
        window: deque[tuple[Sequence[int], list[Future[NDArray[np.uint8] | None]]]] = deque()
        try:
            for start in range(0, len(wanted), batch_size):
                indices = wanted[start : start + batch_size]
                window.append((indices, [pool.submit(read, i) for i in indices]))
                if len(window) > READ_AHEAD_BATCHES:
                    yield _collect(*window.popleft(), tiles.plan.size_tile_px)
            while window:
                yield _collect(*window.popleft(), tiles.plan.size_tile_px)
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(indices: Sequence[int], futures: Sequence[Future[NDArray[np.uint8] | None]], side: int) -> TileBatch:
    read = [(i, f.result()) for i, f in zip(indices, futures, strict=True)]
    good = [(i, rgb) for i, rgb in read if rgb is not None]
    rgb = np.stack([rgb for _, rgb in good]) if good else np.empty((0, side, side, 3), np.uint8)
    return TileBatch(
        rgb, np.array([i for i, _ in good], np.int64), np.array([i for i, tile in read if tile is None], np.int64)
    )
