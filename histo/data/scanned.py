"""Masks of the overview as far as the scan goes: the outermost cells of a lattice may reach beyond its edge."""

import numpy as np
from numpy.typing import NDArray

from histo.geometry import MapGrid, Pyramid, rebin
from histo.results import Overview


def on_map(mask: NDArray[np.bool_], overview: Overview, pyramid: Pyramid, grid: MapGrid) -> NDArray[np.float32]:
    """Return what share of every cell (H, W) of `grid` is in a mask on the overview, and was scanned."""
    rows, columns = _shares(grid, pyramid)
    return np.asarray(np.minimum(rebin(mask, overview.grid, grid), rows[:, None] * columns), np.float32)


def area_mm2(mask: NDArray[np.bool_], overview: Overview, pyramid: Pyramid) -> float:
    """Return the area of a mask (H, W) on the overview, as far as it was scanned."""
    rows, columns = _shares(overview.grid, pyramid)
    cells = sum(float(row) * float(columns[line].sum(dtype=np.float64)) for row, line in zip(rows, mask, strict=True))
    return cells * overview.grid.cell_mm2


def left_out(overview: Overview, pyramid: Pyramid) -> float:
    """Return what share of a slide the scanner left out, or a converter filled; cells across its border don't count."""
    if overview.scanned is None:
        return 0.0
    rows, columns = _shares(overview.grid, pyramid)
    inside = overview.scanned[np.ix_(rows == 1, columns == 1)]
    return 1 - float(inside.mean()) if inside.size else 0.0


def _shares(grid: MapGrid, pyramid: Pyramid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what share of every row (H,) and column (W,) of a lattice was scanned."""
    left, top, width, height = pyramid.bounds_level0_px

    def shares(k: int, end: int, cells: int) -> NDArray[np.float32]:
        edges = grid.origin_level0_px[k] + grid.cell_level0_px[k] * np.arange(cells)
        return np.asarray(np.clip((end - edges) / grid.cell_level0_px[k], 0, 1), np.float32)

    return shares(1, top + height, grid.shape[0]), shares(0, left + width, grid.shape[1])
