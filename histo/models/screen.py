"""The screen of a model: a small network at a coarse scale that decides which tiles the network itself is shown.

The card's section is its whole contract: geometry, network, threshold, and how much was missed where that was fitted.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from histo.config import NetworkConfig, TileConfig
from histo.geometry import MapGrid, TileGrid, look_up
from histo.schema import Share, Strict

_AROUND = np.ones((3, 3), np.uint8)
LESION = 1  # the screen's second output: a lesion of any class


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

    The network is shown its tiles divided into `parts` by `parts` windows. A window is shown where the screen's
    probability of a lesion reaches `threshold` on the window's tissue, where the screen could not read, and where a
    lesion that the network found goes on.
    """

    tile: TileConfig
    network: NetworkConfig
    threshold: Share
    parts: int = Field(1, ge=1)
    fitted_on: str
    missed: Missed
    golden: tuple[float, ...]
    weights_sha256: str


def strongest(
    lesion: NDArray[np.floating],
    seen: NDArray[np.bool_],
    screen_grid: MapGrid,
    tiles: TileGrid,
    tissue: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Return for every tile (N,) of the network the highest probability of a lesion that the screen sees on its tissue.

    `lesion` and `seen` (h, w) are the screen's map and where it was read; what was not seen counts as 1. `tissue`
    (H, W) is that of the slide map of `tiles`.
    """
    known = np.where(seen, lesion, 1).astype(np.float32)
    here = np.where(tissue > 0, look_up(known, screen_grid, tiles.map_grid), 0)
    return np.array([here[box].max() for box in tiles.kept_boxes()], np.float32)


def followed(
    scores: NDArray[np.floating], found: NDArray[np.bool_], tiles: TileGrid, tissue: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return for every tile (N,) the highest threshold at which the network is shown it.

    That is its own score, or the score of a tile from which lesions lead to it. `found` (H, W) are the cells in which
    the network finds a lesion when it is shown everything.
    """
    best, boxes = np.asarray(scores, np.float32), list(tiles.kept_boxes())
    while True:
        leading = np.zeros(tiles.map_grid.shape, np.float32)
        for box, score in zip(boxes, best, strict=True):
            leading[box] = score
        leading = np.where(found & (tissue > 0), leading, np.float32(0))
        near = np.where(tissue > 0, cv2.dilate(leading, _AROUND), 0)
        better = np.maximum(best, np.array([near[box].max() for box in boxes], np.float32))
        if np.array_equal(better, best):
            return best
        best = better


def leads_to(found: NDArray[np.bool_], tiles: TileGrid, tissue: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return the tiles (N,) on whose tissue a lesion lies, or where one goes on: within a cell of it.

    `found` (H, W) are the cells of the slide map of `tiles` in which there is a lesion, `tissue` (H, W) its tissue.
    """
    near = (cv2.dilate((found & (tissue > 0)).astype(np.uint8), _AROUND) > 0) & (tissue > 0)
    return np.array([near[box].any() for box in tiles.kept_boxes()], bool)
