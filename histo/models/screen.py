"""The screen of a model: a small network at a coarse scale that decides which tiles the network itself is shown.

The card's section is its whole contract: geometry, network, threshold, and how much was missed where that was fitted.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from histo.config import NetworkConfig, TileConfig
from histo.geometry import MapGrid, TileGrid, look_up
from histo.schema import Share, Strict

LESION = 1  # the screen's second output: a lesion of any class


class Reach(NamedTuple):
    """Over how many of the screen's cells on every side its map is averaged, and to how many it spreads then."""

    smooth_cells: int
    spread_cells: int


class Missed(Strict):
    """What the threshold missed on the slides that it was chosen on: no test figure.

    Every slide is seen in several views. `lesion_mm2` is the outlined lesion area, of all views, that the network finds
    when it is shown everything; `missed_share` of it lies in tiles that are passed over, with a 95 % interval by
    patient. A deposit counts from `deposit_um` of diameter on, if the network finds any of it, and is missed when in
    some view no tile on it is shown.
    `shown_share` is the share of the tissue of all these slides that the network is shown.
    """

    slides: int = Field(ge=0)
    views: int = Field(ge=0)
    patients: int = Field(ge=0)
    lesion_mm2: float = Field(ge=0)
    missed_share: Share
    missed_share_interval: tuple[Share, Share]
    deposit_um: float = Field(gt=0)
    deposits: int = Field(ge=0)
    deposits_missed: int = Field(ge=0)
    deposits_missed_interval: tuple[Share, Share]
    shown_share: Share

    @model_validator(mode="after")
    def _is_possible(self) -> "Missed":
        if self.deposits_missed > self.deposits:
            raise ValueError(f"deposits_missed ({self.deposits_missed}) is above deposits ({self.deposits})")
        return self


class ScreenCard(Strict):
    """The section `screen` of a model card.

    A tile is shown to the network where the screen's probability of a lesion, averaged over `smooth_cells` of its cells
    on every side, reaches `threshold` on the tile's tissue or within `spread_cells` around it. What the screen could
    not read is shown too.
    """

    tile: TileConfig
    network: NetworkConfig
    threshold: Share
    spread_cells: int = Field(ge=0)
    smooth_cells: int = Field(0, ge=0)
    fitted_on: str
    missed: Missed
    golden: tuple[float, ...]
    weights_sha256: str

    @property
    def reach(self) -> Reach:
        """How far a cell's score reaches."""
        return Reach(self.smooth_cells, self.spread_cells)


def strongest(
    lesion: NDArray[np.floating], seen: NDArray[np.bool_], screen_grid: MapGrid, reach: Reach, tiles: TileGrid,
    tissue: NDArray[np.floating],
) -> NDArray[np.float32]:  # fmt: skip
    """Return for every tile (N,) of the network the highest probability of a lesion that the screen sees on its tissue.

    `lesion` and `seen` (h, w) are the screen's map and where it was read; what was not seen counts as 1. `tissue`
    (H, W) is that of the slide map of `tiles`. One cell of 32 µm is noise; a deposit of 200 µm covers thirty.
    """
    from scipy.ndimage import maximum_filter, uniform_filter

    known = np.where(seen, lesion, 1).astype(np.float32)
    smooth = np.where(seen, uniform_filter(known, 2 * reach.smooth_cells + 1, mode="nearest"), 1)
    spread = maximum_filter(smooth, 2 * reach.spread_cells + 1, mode="constant")
    here = np.where(tissue > 0, look_up(spread, screen_grid, tiles.map_grid), 0)
    return np.array([here[box].max() for box in tiles.kept_boxes()], np.float32)
