"""Black on the tissue: felt pen, thick folds, carbon. The dyes of H&E are seldom dark without any colour.

Black ink is told by no hue, and calcium may be as black in a strong or faded stain: so nothing is left out of the
tissue, as blue and green ink are, and a pathologist must look.
"""

import numpy as np
from numpy.typing import NDArray

from histo.data.glass import glass_of
from histo.data.tissue import STRIP_PX, optical_density
from histo.geometry import MapGrid
from histo.results import Overview, Reason
from histo.wording import percent_beside

DARK_OD = 1.0  # in every channel
NO_COLOUR = 0.06  # range of the channels' shares of the density: dark calcium is mostly bluer
MOST_BLACK = 0.10  # of the tissue, as of ink that is told by its hue


def black_share(overview: Overview, usable: NDArray[np.floating], grid: MapGrid) -> float | None:
    """Return how much of the usable tissue (H, W) on the lattice `grid` is black; None without any."""
    whole = float(usable.sum()) * grid.cell_mm2
    if not whole > 0:
        return None
    glass, found = glass_of(overview), 0.0
    for start in range(0, len(overview.rgb), STRIP_PX):  # in strips, to bound the memory
        rows, columns = np.nonzero(_black(overview.rgb[start : start + STRIP_PX], glass))
        middles = np.stack([columns, rows + start], axis=1).astype(np.float64) + 0.5
        column, row = np.floor(grid.to_map_px(overview.grid.to_level0_px(middles))).astype(int).T
        there = (row >= 0) & (row < usable.shape[0]) & (column >= 0) & (column < usable.shape[1])
        found += float(usable[row[there], column[there]].sum())
    return found * overview.grid.cell_mm2 / whole


def black_reasons(share: float | None) -> tuple[Reason, ...]:
    """Return that much of the tissue is black."""
    if share is None or share <= MOST_BLACK:
        return ()
    text = (
        f"{percent_beside(share, MOST_BLACK)} of the tissue is black (limit {100 * MOST_BLACK:.0f} %): ink, folds, "
        "dirt and very dark calcium look alike there; check the slide, and clean and scan it again if it is dirty."
    )
    return (Reason("black_over_tissue", text),)


def _black(rgb: NDArray[np.uint8], glass: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pixels (h, w) are dark without colour."""
    od = optical_density(rgb, glass)
    black = (od[..., 0] > DARK_OD) & (od[..., 1] > DARK_OD) & (od[..., 2] > DARK_OD)
    dark = od[black]  # a small part of a slide, as a rule
    black[black] = np.ptp(dark, axis=-1) < NO_COLOUR * dark.sum(axis=-1)
    return np.asarray(black, bool)
