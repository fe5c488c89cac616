"""Showing tiles of a slide to a network, and putting its maps together."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.data.tiff_blocks import open_blocks
from histo.data.tiles import TileBatch, TileDataset, sample_tiles, stream_batches
from histo.geometry import TileGrid
from histo.models.engine import Engine, Engines, Seen, check_finite, score_batches
from histo.models.stitching import Stitcher
from histo.opening import Laid
from histo.timing import Progress, Timings

Numbers = NDArray[np.int64]  # of tiles
# What is shown, round by round: asked for the next round, it may look at what the last one left in the map.
Rounds = Callable[[Stitcher], Iterator[Numbers]]
Take = Callable[[TileBatch, Seen], None]


@dataclass(frozen=True)
class Pace:
    """How tiles are read and shown, which changes no result: threads that read, and how many tiles a call takes.

    `batch_size` is the engine's own unless given. `progress(done, all)` counts tiles.
    """

    readers: int = 2
    batch_size: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """The maps of the tiles that were shown, the engine that made them, and whether the fast reader read."""

    stitcher: Stitcher
    engine: Engine
    fast: bool


def score_tiles(
    laid: Laid,
    tiles: TileGrid,
    engines: Engines,
    pace: Pace,
    timings: Timings,
    *,
    rounds: Rounds | None = None,
    take: Take | None = None,
) -> Scored:
    """Show tiles of a slide to the network of `engines`, all of them or what `rounds` picks.

    `take` is handed every batch with what was seen in it. Raises `SlideFailed` (`not_finite`) where the network gives
    no numbers.
    """
    slide = laid.slide
    # A call takes as many pixels, however small the tiles.
    at_once = max(1, engines.model.card.tile.size_px**2 // tiles.spec.size_px**2)
    stitcher = Stitcher(tiles, len(engines.model.card.classes.names))
    picked = rounds(stitcher) if rounds else iter([np.arange(len(tiles))])
    numbers = next(picked, np.empty(0, np.int64))
    done = asked = 0
    with timings.stage("checking the reader"):
        fast = open_blocks(slide, tiles.some(numbers))
    with fast or nullcontext(slide) as reader:
        data = TileDataset.of(reader, tiles)
        with timings.stage("checking the engine"):
            engine = engines.pick(lambda: sample_tiles(slide, tiles))
        while len(numbers):
            asked += len(numbers)
            batches = stream_batches(
                data, pace.batch_size or engine.batch_size * at_once, pace.readers, timings, numbers
            )
            for batch, seen in score_batches(batches, engine, timings, laid.stain_norm.apply):
                with timings.stage("stitching"):
                    if seen is not None:
                        check_finite(seen, slide.path)
                        stitcher.add(batch.indices, seen.probability)
                        if take:
                            take(batch, seen)
                done += len(batch.indices) + len(batch.unreadable)
                if pace.progress:
                    pace.progress(done, asked)
            numbers = next(picked, np.empty(0, np.int64))
    return Scored(stitcher, engine, fast is not None)
