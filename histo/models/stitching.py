"""Putting the score maps of single tiles together into the slide map."""

import numpy as np
from numpy.typing import NDArray

from histo.geometry import TileGrid


class Stitcher:
    """Collects tile score maps into the map of the slide; every cell comes from exactly one tile.

    Memory is that of the map (a few MB), however large the slide.
    """

    def __init__(self, tiles: TileGrid, classes: int) -> None:
        self._tiles = tiles
        rows, columns = tiles.map_grid.shape
        self.probability = np.zeros((classes, rows, columns), np.float16)
        self.valid = np.zeros((rows, columns), bool)

    def add(self, indices: NDArray[np.int64], probability: NDArray[np.floating]) -> None:
        """Enter the maps (B, C, h, w) of the tiles `indices`, without their margins."""
        spec = self._tiles.spec
        inner = slice(spec.margin_cells, spec.margin_cells + spec.kept_cells)
        rows, columns = self.valid.shape
        for index, tile in zip(indices, probability[:, :, inner, inner], strict=True):
            row, column = (int(v) for v in self._tiles.cells_map_px[index])
            # The last row and column of tiles may reach past the map.
            high, wide = min(spec.kept_cells, rows - row), min(spec.kept_cells, columns - column)
            self.probability[:, row : row + high, column : column + wide] = tile[:, :high, :wide]
            self.valid[row : row + high, column : column + wide] = True
