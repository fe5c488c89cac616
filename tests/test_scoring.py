"""Tiles are shown round by round, so many at once as their pixels allow, and all of them are told."""

import numpy as np
import pytest

from histo.models.engine import Engines
from histo.opening import open_for
from histo.scoring import Pace, score_tiles
from histo.timing import Timings


@pytest.fixture
def score(colour_model):
    """Return what scores tiles of a slide and gives what came of it, the sizes of its batches, and its progress."""

    def work(path, tiles_of=lambda laid: laid.tiles, rounds=None, batch_size=None):
        laid = open_for(path, colour_model).laid
        engines, sizes, told = Engines(colour_model, "torch", "cpu"), [], []
        pace = Pace(1, batch_size, lambda done, total: told.append((done, total)))
        scored = score_tiles(
            laid,
            tiles_of(laid),
            engines,
            pace,
            Timings(),
            rounds=rounds,
            take=lambda batch, seen: sizes.append(len(batch.indices)),
        )
        return scored, sizes, told

    return work


def test_progress_adds_the_rounds_up(painted, score):
    def rounds(stitcher):
        yield np.array([5, 6, 9])
        yield np.array([0, 1])

    _, sizes, told = score(painted, rounds=rounds, batch_size=2)
    assert told == [(2, 3), (3, 3), (5, 5)]
    assert sizes == [2, 1, 2]


def test_tiles_that_cannot_be_read_are_done_too(paint_slide, write_tiff, tmp_path, score):
    path = write_tiff(tmp_path / "hurt.svs", [paint_slide()], faults={19: b"\xff\xd8garbage"})
    _, sizes, told = score(path)
    assert told[-1][0] == told[-1][1] > sum(sizes) > 0


def test_of_smaller_tiles_as_many_are_shown_at_once_as_have_the_same_pixels(painted, score):
    def windows(laid):
        return laid.tiles.split(laid.slide.pyramid, 2, laid.tissue)

    whole, sizes, _ = score(painted)
    assert max(sizes) == whole.engine.batch_size
    _, sizes, _ = score(painted, windows)
    assert max(sizes) == whole.engine.batch_size * (256**2 // 160**2) == whole.engine.batch_size * 2
