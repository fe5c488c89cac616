"""Showing tiles of an opened slide to a network, and putting its maps together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.data.tiff_blocks import open_blocks
from histo.data.tiles import TileBatch, TileDataset, sample_tiles, stream_batches
from histo.geometry import TileGrid
from histo.models.engine import Engine, Engines, Seen, check_finite, scored
from histo.models.stitching import Stitcher
from histo.opening import Opened
from histo.timing import Progress, Timings

Numbers = NDArray[np.int64]  # of tiles
# What is shown, round by round: asked for the next round, it may look at what the last one left in the map.
Rounds = Callable[[Stitcher], Iterator[Numbers]]
Take = Callable[[TileBatch, Seen], None]


@dataclass(frozen=True, eq=False)
class Scored:
    """The maps of the tiles that were shown, the engine that made them, and whether the fast reader read."""

    stitcher: Stitcher
    engine: Engine
    fast: bool


def score_tiles(
    opened: Opened,
    tiles: TileGrid,
    engines: Engines,
    readers: int,
    timings: Timings,
    *,
    rounds: Rounds | None = None,
    batch_size: int | None = None,
    take: Take | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Show tiles of a slide to the network of `engines`, all of them or what `rounds` picks.

    `take` is handed every batch with what was seen in it; `progress` is told how many tiles are done, and of how many
    that are known to be shown. Raises `SlideFailed` (`not_finite`) where the network gives no numbers.
    """
    slide = opened.slide
    assert slide is not None
    # A call takes as many pixels, however small the tiles.
    at_once = max(1, engines.model.card.tile.size_px**2 // tiles.spec.size_px**2)
    stitcher = Stitcher(tiles, len(engines.model.card.classes.names))
    picked = rounds(stitcher) if rounds else iter([np.arange(len(tiles))])
    numbers = next(picked, np.empty(0, np.int64))
    done = asked = 0
    with timings.stage("checking the reader"):
        fast = open_blocks(slide, tiles.some(numbers))
    try:
        data = TileDataset.of(fast or slide, tiles)
        with timings.stage("checking the engine"):
            engine = engines.pick(lambda: sample_tiles(slide, tiles))
        while len(numbers):
            asked += len(numbers)
            batches = stream_batches(data, batch_size or engine.batch_size * at_once, readers, timings, numbers)
            for batch, seen in scored(batches, engine, timings, opened.stain_norm.apply):
                with timings.stage("stitching"):
                    if seen is not None:
                        check_finite(seen, slide.path)
                        stitcher.add(batch.indices, seen.probability)
                        if take:
                            take(batch, seen)
                done += len(batch.indices) + len(batch.unreadable)
                if progress:
                    progress(done, asked)
            numbers = next(picked, np.empty(0, np.int64))
    finally:
        if fast is not None:
            fast.close()
    return Scored(stitcher, engine, fast is not None)
