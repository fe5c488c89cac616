"""Whether a heatmap shows what its verdict rests on: its strongest parts are painted over, and the network looks again.

Deletion, Samek et al. 2017 and Petsiuk et al. 2018: if the evidence falls no more than after painting over as much
tissue anywhere, the map does not point at what the network saw. The paint is the slide's own least suspicious tissue.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.data.stain_norm import StainNorm
from histo.data.tile_sample import stacked
from histo.data.tiles import TileDataset, sample_tiles, stream_batches
from histo.errors import SlideError
from histo.evaluation.deletion import SHARES, Deletion
from histo.geometry import TileGrid
from histo.models.engine import Engines, score_batches
from histo.models.pooling import pooled
from histo.models.stitching import Stitcher
from histo.opening import open_for

SQUARE_CELLS = 4  # side of what is painted over at once: 64 µm
_DONOR_TILES, _DONORS = 8, 256
_READERS = 2

Bools = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


def deletions(
    engines: Engines, path: Path, mpp: float | None, heat: NDArray[np.floating], number: int, seed: int = 0
) -> list[Deletion] | None:
    """Return what painting over `SHARES` of a slide does to the evidence of class `number` of the engines' model.

    `heat` (H, W) is the class's heatmap on the lattice of the slide map. None where the slide cannot be read or its map
    has another shape.
    """
    model = engines.model
    with open_for(path, model, mpp, sha256="") as opened:
        try:
            laid = opened.laid
        except SlideError:
            return None
        slide, tiles, norm = laid.slide, laid.tiles, laid.stain_norm
        usable = laid.tissue > laid.excluded
        if heat.shape != usable.shape or not usable.any():
            return None
        data = TileDataset.of(slide, tiles)
        donors = _donors(data, tiles, np.where(usable, heat, np.inf), norm)
        if not len(donors):
            return None
        engine = engines.pick(lambda: sample_tiles(slide, tiles))
        least = math.ceil(model.info.classes[number - 1].min_area_mm2 / tiles.map_grid.cell_mm2)

        def evidence(cover: Bools) -> float:
            painted = _Painted(slide, tiles.plan, tiles.positions_level0_px, tiles, norm, cover, donors)
            stitcher = Stitcher(tiles, len(model.info.class_names))
            batches = stream_batches(painted, engine.batch_size, _READERS)
            for batch, seen in score_batches(batches, engine, opened.timings):
                if seen is not None:
                    stitcher.add(batch.indices, seen.probability)
            return pooled(stitcher.probability[number][usable & stitcher.valid], least)

        whole = evidence(np.zeros_like(usable))
        others = [whole - evidence(c) for c in _covers(heat, usable, np.random.default_rng(seed))]
    return [Deletion(*one) for one in zip(SHARES, others[::2], others[1::2], strict=True)]


@dataclass(frozen=True, eq=False)
class _Painted(TileDataset):
    """The tiles of a slide as the network sees them, with the cells of `cover` (H, W of the slide map) painted over."""

    tiles: TileGrid
    norm: StainNorm
    cover: Bools
    donors: Pixels

    def __getitem__(self, index: int) -> Pixels | None:
        tile = super().__getitem__(index)
        return None if tile is None else paint_over(self.norm.apply(tile), self.tiles, index, self.cover, self.donors)


def _covers(heat: NDArray[np.floating], usable: Bools, rng: np.random.Generator) -> list[Bools]:
    """Return for every share the squares that are strongest on average, and as much tissue in squares drawn at random.

    Squares, because single cells anywhere would spoil the texture everywhere and prove nothing.
    """
    rows, columns = np.nonzero(usable)
    across = -(-usable.shape[1] // SQUARE_CELLS)
    _, square, cells = np.unique(
        rows // SQUARE_CELLS * across + columns // SQUARE_CELLS, return_inverse=True, return_counts=True
    )
    mean = np.bincount(square, heat[usable]) / cells
    ranked, shuffled = np.argsort(-mean, kind="stable"), rng.permutation(len(mean))
    found = []
    for share in SHARES:
        for order in (ranked, shuffled):
            count = int(np.searchsorted(np.cumsum(cells[order]), share * len(rows))) + 1
            cover = np.zeros_like(usable)
            cover[usable] = np.isin(square, order[:count])
            found.append(cover)
    return found


def _donors(data: TileDataset, tiles: TileGrid, suspicion: NDArray[np.floating], norm: StainNorm) -> Pixels:
    """Return squares (N, P, P, 3) of the least suspicious tissue, P pixels a cell; none where none can be read."""
    kept, stride = tiles.spec.kept_cells, tiles.spec.stride_px
    limit = np.quantile(suspicion[np.isfinite(suspicion)], 0.25)
    clear = [int((suspicion[box] <= limit).sum()) for box in tiles.kept_boxes()]
    squares: list[Pixels] = []
    for index in np.argsort(clear, kind="stable")[::-1][:_DONOR_TILES].tolist():
        tile = data[index]
        if tile is None:
            continue
        row, column = tiles.cells_map_px[index].tolist()
        normal = norm.apply(tile)
        for r, c in np.argwhere(suspicion[row : row + kept, column : column + kept] <= limit).tolist():
            top, left = ((k + tiles.spec.margin_cells) * stride for k in (r, c))
            squares.append(normal[top : top + stride, left : left + stride])
    return stacked(squares[:: max(1, len(squares) // _DONORS)])


def paint_over(tile: Pixels, tiles: TileGrid, index: int, cover: Bools, donors: Pixels) -> Pixels:
    """Return tile `index` (S, S, 3) with every cell of `cover` (H, W of the slide map) under a donor's square.

    A cell takes the same square in every tile that shows it, margins included.
    """
    spec, painted = tiles.spec, tile.copy()
    # The tile's first cell on the slide map; its margin may begin before the map does.
    first_row, first_column = (int(v) - spec.margin_cells for v in tiles.cells_map_px[index])
    rows, columns = (
        slice(max(first_row, 0), first_row + spec.map_cells),
        slice(max(first_column, 0), first_column + spec.map_cells),
    )
    for r, c in np.argwhere(cover[rows, columns]).tolist():
        row, column = rows.start + r, columns.start + c
        top_px, left_px = (row - first_row) * spec.stride_px, (column - first_column) * spec.stride_px
        donor = donors[(row * cover.shape[1] + column) % len(donors)]
        painted[top_px : top_px + spec.stride_px, left_px : left_px + spec.stride_px] = donor
    return painted
