"""Coarse to fine: the screen sees all tissue at its coarse scale, and the network is shown the tiles that it picks.

What the network is shown it scores exactly as in full mode: same tiles, same numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.data.tiff_blocks import open_blocks
from histo.data.tiles import TileDataset, sample_tiles, stream_batches
from histo.geometry import TileGrid, lay_tiles, map_grid_for, rebin
from histo.models.engine import Engines, scored
from histo.models.screen import LESION, strongest
from histo.models.stitching import Stitcher
from histo.opening import Opened
from histo.timing import Timings


@dataclass(frozen=True, eq=False)
class Screened:
    """What the screen made of a slide: the tiles to show to the network, the map cells (H, W) that none covers."""

    tiles: TileGrid
    passed_over: NDArray[np.bool_]


def screen_slide(opened: Opened, engines: Engines, readers: int) -> Screened:
    """Let the screen of the engines' model choose among the tiles of a slide that was opened for the model.

    Raises `UsageError` for a model without a screen.
    """
    assert opened.tiles is not None
    assert opened.tissue_map is not None
    scores = _tile_scores(opened, engines, readers)
    card = engines.model.card.screen
    assert card is not None
    shown = opened.tiles.some(scores >= card.threshold)
    seen = np.zeros(opened.tissue_map.shape, bool)
    for box in shown.kept_boxes():
        seen[box] = True
    return Screened(shown, (opened.tissue_map > 0) & ~seen)


def _tile_scores(opened: Opened, engines: Engines, readers: int) -> NDArray[np.float32]:
    """Return what the screen's strongest cell on every tile (N,) of the network says, see `models.screen.strongest`."""
    slide, tiles, tissue_map, timings = opened.slide, opened.tiles, opened.tissue_map, Timings()
    assert slide is not None
    assert tiles is not None
    assert tissue_map is not None
    of_screen = engines.of_screen
    card = engines.model.card.screen
    assert card is not None
    grid, _ = map_grid_for(slide.pyramid, card.tile.spec())
    coarse = lay_tiles(slide.pyramid, card.tile.spec(), rebin(tissue_map, tiles.map_grid, grid))
    stitcher = Stitcher(coarse, LESION + 1)
    with timings.stage("checking the reader"):
        fast = open_blocks(slide, coarse)
    try:
        with timings.stage("checking the engine"):
            engine = of_screen.pick(lambda: sample_tiles(slide, coarse))
        batches = stream_batches(TileDataset.of(fast or slide, coarse), engine.batch_size, readers, timings)
        for batch, seen in scored(batches, engine, timings, opened.stain_norm.apply):
            if seen is not None:
                stitcher.add(batch.indices, seen.probability)
    finally:
        if fast is not None:
            fast.close()
    opened.timings.include(timings, "screen, ")
    return strongest(stitcher.probability[LESION], stitcher.valid, grid, card.reach, tiles, tissue_map)
