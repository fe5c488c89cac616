"""Coarse to fine: the screen sees all tissue at its coarse scale and picks tiles; the network follows what it finds.

The network's tiles are divided into windows, and those that the screen picks are shown. Where the network finds a
lesion it is shown the windows around, too, until none goes on beyond what was shown: the screen need not see all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.geometry import TileGrid, TileSpec, lay_tiles, map_grid_for, rebin
from histo.models.engine import Engines
from histo.models.screen import LESION, leads_to, strongest
from histo.models.stitching import Stitcher
from histo.opening import Laid
from histo.scoring import Pace, score_tiles
from histo.timing import Timings

PROCEDURE = 2  # how windows are picked and followed; another number is another setting of a result


@dataclass(eq=False)
class Screening:
    """Which windows of a slide the network is shown: those that the screen picks, and those that lesions lead to."""

    windows: TileGrid
    tissue: NDArray[np.float32]
    grow: float
    shown: NDArray[np.bool_]
    _picked: NDArray[np.bool_]

    @classmethod
    def of(cls, laid: Laid, engines: Engines, pace: Pace, timings: Timings) -> "Screening":
        """Let the screen of the engines' model see a slide that was laid out for the model."""
        card = engines.model.card.screen
        assert card is not None  # no other model is asked to screen
        windows = laid.tiles.split(laid.slide.pyramid, card.parts, laid.tissue)
        picked = _scores(laid, windows, card.tile.spec(), engines, pace, timings) >= card.threshold
        return cls(windows, laid.tissue, engines.model.card.rule.grow, np.zeros(len(windows), bool), picked)

    def rounds(self, stitcher: Stitcher) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the windows to show next; `stitcher` holds what the network made of those before."""
        fresh = self._picked
        while fresh.any():
            self.shown |= fresh
            yield np.flatnonzero(fresh)
            found = stitcher.probability[1:].max(axis=0) >= self.grow
            lost = self._seen & ~stitcher.valid  # a lesion may go on beyond what cannot be read
            fresh = leads_to(found | lost, self.windows, self.tissue) & ~self.shown

    @property
    def passed_over(self) -> NDArray[np.bool_]:
        """The cells (H, W) of tissue that the network was not shown."""
        return (self.tissue > 0) & ~self._seen

    @property
    def _seen(self) -> NDArray[np.bool_]:
        seen = np.zeros(self.tissue.shape, bool)
        for box in self.windows.some(self.shown).kept_boxes():
            seen[box] = True
        return seen


def _scores(
    laid: Laid, windows: TileGrid, spec: TileSpec, engines: Engines, pace: Pace, timings: Timings
) -> NDArray[np.float32]:
    """Return what the screen's strongest cell on every window (N,) says, see `models.screen.strongest`."""
    pyramid, of_screen = laid.slide.pyramid, Timings()
    grid, _ = map_grid_for(pyramid, spec)
    coarse = lay_tiles(pyramid, spec, rebin(laid.tissue, windows.map_grid, grid))
    stitcher = score_tiles(laid, coarse, engines.of_screen, Pace(pace.readers), of_screen).stitcher
    timings.include(of_screen, "screen, ")
    return strongest(stitcher.probability[LESION], stitcher.valid, grid, windows, laid.tissue)
