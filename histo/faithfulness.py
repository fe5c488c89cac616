"""Whether a heatmap shows what its verdict rests on: its strongest parts are painted over, and the network looks again.

Deletion, Samek et al. 2017 and Petsiuk et al. 2018: if the evidence falls no more than after painting over as much
tissue anywhere, the map does not point at what the network saw. The paint is the slide's own least suspicious tissue.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.data.stain_norm import StainNorm
from histo.data.tile_sample import stacked
from histo.data.tiles import TileDataset, sample_tiles, stream_batches
from histo.evaluation.deletion import SHARES, Deletion
from histo.geometry import TileGrid
from histo.models.engine import Engines
from histo.models.lesions import pooled
from histo.models.stitching import Stitcher
from histo.opening import open_for

SQUARE_CELLS = 4  # side of what is painted over at once: 64 µm
_DONOR_TILES, _DONORS = 8, 256
_TILES_AT_ONCE = 4

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
    opened = open_for(path, model, mpp, sha256="")
    slide, tiles = opened.slide, opened.tiles
    if slide is None or tiles is None or opened.error is not None:
        return None
    with slide:
        assert opened.tissue_map is not None
        assert opened.excluded_map is not None
        usable = opened.tissue_map > opened.excluded_map
        if heat.shape != usable.shape or not usable.any():
            return None
        data = TileDataset.of(slide, tiles)
        donors = _donors(data, tiles, np.where(usable, heat, np.inf), opened.stain_norm)
        if not len(donors):
            return None
        covers = [np.zeros_like(usable), *_covers(heat, usable, np.random.default_rng(seed))]
        stitchers = [Stitcher(tiles, len(model.info.class_names)) for _ in covers]
        engine = engines.pick(lambda: sample_tiles(slide, tiles))
        for batch in stream_batches(data, _TILES_AT_ONCE, 1):
            if not len(batch.indices):
                continue
            rgb = opened.stain_norm.apply(batch.rgb)
            for cover, stitcher in zip(covers, stitchers, strict=True):
                shown = [
                    paint_over(t, tiles, i, cover, donors) for t, i in zip(rgb, batch.indices.tolist(), strict=True)
                ]
                stitcher.add(batch.indices, engine.see(stacked(shown)).probability)
    least = math.ceil(model.info.classes[number - 1].min_area_mm2 / tiles.map_grid.cell_mm2)
    whole, *others = (pooled(s.probability[number][usable & s.valid], least) for s in stitchers)
    pairs = zip(SHARES, others[::2], others[1::2], strict=True)
    return [Deletion(share, whole - strongest, whole - anywhere) for share, strongest, anywhere in pairs]


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
    top, left = (int(v) - spec.margin_cells for v in tiles.cells_map_px[index])
    first = max(top, 0), max(left, 0)
    for r, c in np.argwhere(cover[first[0] : top + spec.map_cells, first[1] : left + spec.map_cells]).tolist():
        row, column = first[0] + r, first[1] + c
        y, x = (row - top) * spec.stride_px, (column - left) * spec.stride_px
        painted[y : y + spec.stride_px, x : x + spec.stride_px] = donors[(row * cover.shape[1] + column) % len(donors)]
    return painted
