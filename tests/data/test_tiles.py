"""Reading ahead: every tile in order, damaged ones named, a bounded distance ahead, no thread left behind."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data.slide import open_slide
from histo.data.tiles import READ_AHEAD_BATCHES, TileDataset, stream_batches
from histo.errors import SlideFailed
from histo.geometry import Pyramid, ReadPlan, TileSpec, lay_tiles, map_grid_for

Rgb = NDArray[np.uint8]
GARBAGE = b"\xff\xd8\xff\xe0" + b"garbage" * 20
SIDE = 4
PLAN = ReadPlan(0, (SIDE, SIDE), SIDE, (1.0, 1.0))


class NumberedSlide:
    """Gives tiles that hold their own number; some cannot be read, and early ones are slow."""

    def __init__(self, bad: tuple[int, ...] = (), delay: float = 0.0) -> None:
        self.bad, self.delay = bad, delay
        self.read: list[int] = []

    def read_tile(self, xy: tuple[int, int], plan: ReadPlan) -> Rgb:
        number = xy[0]
        self.read.append(number)
        time.sleep(self.delay * (number % 3))
        if number in self.bad:
            raise SlideFailed("unreadable", "damaged")
        return np.full((SIDE, SIDE, 3), number, np.uint8)


def tiles_of(slide: NumberedSlide, count: int) -> TileDataset:
    positions = np.stack([np.arange(count), np.zeros(count)], axis=1).astype(np.int64)
    return TileDataset(slide, PLAN, positions)  # type: ignore[arg-type]


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("histo-read")]


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize(("count", "batch"), [(0, 3), (1, 3), (3, 3), (10, 3), (40, 1), (5, 100)])
def test_every_tile_comes_once_and_in_order(count: int, batch: int, readers: int) -> None:
    batches = list(stream_batches(tiles_of(NumberedSlide(delay=0.001), count), batch, readers))
    assert [i for b in batches for i in b.indices.tolist()] == list(range(count))
    assert [int(rgb[0, 0, 0]) for b in batches for rgb in b.rgb] == list(range(count))
    assert all(len(b.rgb) == len(b.indices) <= batch for b in batches)
    assert all(b.rgb.dtype == np.uint8 and b.rgb.shape[1:] == (SIDE, SIDE, 3) for b in batches)


def test_unreadable_tiles_are_named_and_cost_nothing_else() -> None:
    batches = list(stream_batches(tiles_of(NumberedSlide(bad=(1, 3, 4, 5)), 8), 3, 2))
    assert [b.unreadable.tolist() for b in batches] == [[1], [3, 4, 5], []]
    assert [b.indices.tolist() for b in batches] == [[0, 2], [], [6, 7]]
    assert batches[1].rgb.shape == (0, SIDE, SIDE, 3)
    assert [int(rgb[0, 0, 0]) for b in batches for rgb in b.rgb] == [0, 2, 6, 7]


def test_reading_ahead_is_bounded() -> None:
    slide = NumberedSlide()
    stream = stream_batches(tiles_of(slide, 1000), 5, 2)
    next(stream)
    time.sleep(0.05)
    assert len(slide.read) <= 5 * (READ_AHEAD_BATCHES + 1)
    next(stream)
    time.sleep(0.05)
    assert len(slide.read) <= 5 * (READ_AHEAD_BATCHES + 2)
    stream.close()


def test_closing_early_leaves_no_threads_and_reads_no_further() -> None:
    slide = NumberedSlide(delay=0.002)
    stream = stream_batches(tiles_of(slide, 1000), 5, 3)
    next(stream)
    assert reading_threads()
    stream.close()
    read = len(slide.read)
    time.sleep(0.05)
    assert not reading_threads()
    assert len(slide.read) == read < 40


def test_the_end_leaves_no_threads() -> None:
    list(stream_batches(tiles_of(NumberedSlide(), 10), 3, 3))
    assert not reading_threads()


def test_an_error_of_the_program_is_not_taken_for_a_damaged_tile() -> None:
    class Broken(NumberedSlide):
        def read_tile(self, xy: tuple[int, int], plan: ReadPlan) -> Rgb:
            raise MemoryError

    with pytest.raises(MemoryError):
        list(stream_batches(tiles_of(Broken(), 10), 3, 2))
    assert not reading_threads()


def test_an_index_outside_is_an_error() -> None:
    tiles = tiles_of(NumberedSlide(), 3)
    assert len(tiles) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            tiles[index]


def test_a_real_slide_s_corrupt_tile_is_the_only_one_missing(
    tmp_path: Path, write_tiff: Callable[..., Path], paint_slide: Callable[..., Rgb]
) -> None:
    path = write_tiff(tmp_path / "a.svs", [paint_slide(1024, 1024)], faults={5: GARBAGE})
    spec = TileSpec(128, 1.0, 16, 0)
    with open_slide(path) as slide:
        grid, _ = map_grid_for(slide.pyramid, spec)
        tiles = lay_tiles(slide.pyramid, spec, np.ones(grid.shape, np.float32))
        batches = list(stream_batches(TileDataset.of(slide, tiles), 3, 3))
    assert [i for b in batches for i in b.unreadable.tolist()] == [5]
    assert sum(len(b.indices) for b in batches) == 15


def test_training_and_inference_read_the_same_tiles(painted: Path, make_pyramid: Callable[..., Pyramid]) -> None:
    spec = TileSpec(256, 1.0, 16, 32)
    with open_slide(painted) as slide:
        grid, _ = map_grid_for(slide.pyramid, spec)
        tiles = lay_tiles(slide.pyramid, spec, np.ones(grid.shape, np.float32))
        data = TileDataset.of(slide, tiles)
        x, y = (int(v) for v in tiles.positions_level0_px[7])
        assert (data[7] == slide.read_tile((x, y), tiles.plan)).all()
