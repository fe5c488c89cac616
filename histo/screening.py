"""Coarse to fine: the screen sees all tissue at its coarse scale, and the network is shown the tiles that it picks.

What the network is shown it scores exactly as in full mode: same tiles, same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.data.slide import Slide
from histo.data.tiff_blocks import open_blocks
from histo.data.tiles import TileDataset, sample_tiles, stream_batches
from histo.geometry import TileGrid, TileSpec, lay_tiles, map_grid_for, rebin
from histo.models.engine import Engine, Engines, Sample, scored
from histo.models.screen import LESION, strongest
from histo.models.stitching import Stitcher
from histo.timing import Timings

Pick = Callable[[Sample], Engine]


@dataclass(frozen=True, eq=False)
class Screened:
    """What the screen made of a slide: the tiles to show to the network, the map cells (H, W) that none covers."""

    tiles: TileGrid
    passed_over: NDArray[np.bool_]


def screen_slide(
    slide: Slide, tiles: TileGrid, tissue_map: NDArray[np.float32], engines: Engines, readers: int, timings: Timings
) -> Screened:
    """Let the screen of the engines' model choose among `tiles`; `tissue_map` (H, W) is the slide map's tissue.

    Raises `UsageError` for a model without a screen.
    """
    of_screen = engines.of_screen
    card = engines.model.card.screen
    assert card is not None
    own = Timings()
    scores = tile_scores(
        slide, tiles, tissue_map, card.tile.spec(), card.spread_cells, of_screen.pick, readers=readers, timings=own
    )
    timings.include(own, "screen, ")
    shown = tiles.some(scores >= card.threshold)
    seen = np.zeros(tissue_map.shape, bool)
    for box in shown.kept_boxes():
        seen[box] = True
    return Screened(shown, (tissue_map > 0) & ~seen)


def tile_scores(
    slide: Slide,
    tiles: TileGrid,
    tissue_map: NDArray[np.float32],
    spec: TileSpec,
    spread_cells: int,
    pick: Pick,
    *,
    readers: int = 2,
    timings: Timings | None = None,
) -> NDArray[np.float32]:
    """Return what the screen's strongest cell on every tile (N,) of the network says, see `models.screen.strongest`.

    `spec` and `spread_cells` are the screen's; `pick` gives its engine.
    """
    timings = timings or Timings()
    grid, _ = map_grid_for(slide.pyramid, spec)
    coarse = lay_tiles(slide.pyramid, spec, rebin(tissue_map, tiles.map_grid, grid))
    stitcher = Stitcher(coarse, LESION + 1)
    with timings.stage("checking the reader"):
        fast = open_blocks(slide, coarse)
    try:
        with timings.stage("checking the engine"):
            engine = pick(lambda: sample_tiles(slide, coarse))
        data = TileDataset.of(fast or slide, coarse)
        for batch, seen in scored(stream_batches(data, engine.batch_size, readers, timings), engine, timings):
            if seen is not None:
                stitcher.add(batch.indices, seen.probability)
    finally:
        if fast is not None:
            fast.close()
    return strongest(stitcher.probability[LESION], stitcher.valid, grid, spread_cells, tiles, tissue_map)
