"""A few tiles from all over a slide, kept as they are read for scoring: what the quality of the slide is judged on."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MOST = 32
THREADS = 2  # that measure tiles before the network starts and after it is done
ONE_IN = 6  # a small slide is judged on fewer tiles, so that judging it costs little beside scoring it
LEAST = 6
GLANCE = 6  # of the sample, where a screen passes most of a slide over and its texture is to be told all the same
MOSTLY = 0.5  # tiles with less tissue say more about glass


@dataclass(eq=False)
class TileSample:
    """Keeps the tiles `chosen` out of all that pass by."""

    chosen: frozenset[int]
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, shares: NDArray[np.floating]) -> "TileSample":
        """Choose among tiles with these tissue shares (N,): spread over those that are mostly tissue."""
        full = fullest(shares)
        count = min(MOST, max(LEAST, len(shares) // ONE_IN), len(full))
        if count == 0:
            return cls(frozenset())
        places = np.linspace(0, len(full) - 1, count + 2)[1:-1] if len(full) > count else np.arange(count)
        return cls(frozenset(full[np.unique(np.floor(places + 0.5).astype(int))].tolist()))

    @property
    def glance(self) -> NDArray[np.int64]:
        """The numbers of a few of the chosen tiles, from the first to the last; all of them where there are fewer."""
        chosen = np.array(sorted(self.chosen), np.int64)
        return chosen[spread(len(chosen), GLANCE)]

    def take(self, indices: NDArray[np.int64], rgb: NDArray[np.uint8]) -> None:
        """Look through a batch: tiles (B, S, S, 3) with their numbers (B,)."""
        for index, tile in zip(indices.tolist(), rgb, strict=True):
            if index in self.chosen:
                self._kept[index] = tile.copy()  # a view would keep its whole batch in memory

    @property
    def missing(self) -> list[int]:
        """The numbers of the tiles that were chosen and did not pass by, or could not be read."""
        return sorted(self.chosen - self._kept.keys())

    @property
    def tiles(self) -> NDArray[np.uint8]:
        """The tiles kept (N, S, S, 3), in the order of their numbers."""
        return stacked(self._kept[i] for i in sorted(self._kept))


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` numbers below `count`, from the first to the last in even steps."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def usable(tissue: NDArray[np.float32], excluded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what of the tissue (H, W) is not under ink; all of it where most is, and the slide is judged by that."""
    return tissue - excluded if excluded.sum() < 0.5 * tissue.sum() else tissue


def fullest(shares: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the numbers of the tiles that are mostly tissue; of a slide that has hardly any, its fullest."""
    full = np.flatnonzero(shares >= MOSTLY)
    return np.asarray(full if len(full) >= LEAST else np.sort(np.argsort(-shares, kind="stable")[:LEAST]), np.int64)


def stacked(tiles: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return tiles (S, S, 3) as one array (N, S, S, 3), also where there is none."""
    found = list(tiles)
    return np.stack(found) if found else np.empty((0, 1, 1, 3), np.uint8)
