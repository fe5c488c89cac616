"""Every cell of the slide map comes from exactly one tile, and from the right one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.geometry import Pyramid, TileGrid, TileSpec, lay_tiles, map_grid_for
from histo.models.stitching import Stitcher

SPECS = (TileSpec(512, 1.0, 16, 32), TileSpec(256, 0.5, 32, 32), TileSpec(64, 1.0, 16, 0))


@st.composite
def grids(draw: st.DrawFn) -> tuple[TileGrid, NDArray[np.float32]]:
    spec = draw(st.sampled_from(SPECS))
    size = draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    x, y = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    bounds = (x, y, size[0] - x, size[1] - y)
    slide = Pyramid(size, (1.0,), draw(st.floats(0.2, 0.5)), 0.45, "recorded", bounds)
    grid, _ = map_grid_for(slide, spec)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    tissue = (rng.random(grid.shape) < draw(st.sampled_from([0.01, 0.2, 1.0]))).astype(np.float32)
    return lay_tiles(slide, spec, tissue), tissue


def numbered(tiles: TileGrid, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score maps that say in every cell which map cell it should become: (row, column, tile), scaled to 0 to 1."""
    side, margin = tiles.spec.map_cells, tiles.spec.margin_cells
    rows, columns = np.indices((side, side)) - margin
    out = np.empty((len(indices), 3, side, side))
    for i, index in enumerate(indices):
        row, column = tiles.cells_map_px[index]
        out[i] = np.stack([rows + row, columns + column, np.full((side, side), index)])
    return out / 2048  # whole numbers up to 2048 are exact in float16


@given(grids(), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_every_valid_cell_comes_from_its_own_place_in_its_own_tile(
    case: tuple[TileGrid, NDArray[np.float32]], batch: int, random: object
) -> None:
    tiles, tissue = case
    order = list(range(len(tiles)))
    random.shuffle(order)  # type: ignore[attr-defined]
    stitcher = Stitcher(tiles, 3)
    for start in range(0, len(order), batch):
        indices = np.array(order[start : start + batch], np.int64)
        stitcher.add(indices, numbered(tiles, indices))
    rows, columns = np.indices(tissue.shape)
    valid = stitcher.valid
    assert (stitcher.probability[0] * 2048)[valid].tolist() == rows[valid].tolist()
    assert (stitcher.probability[1] * 2048)[valid].tolist() == columns[valid].tolist()
    assert valid[tissue > 0].all()
    assert not stitcher.probability[:, ~valid].any()
    kept = tiles.spec.kept_cells
    for index, (row, column) in enumerate(tiles.cells_map_px):
        assert (stitcher.probability[2, row : row + kept, column : column + kept] * 2048 == index).all()


def test_a_tile_that_never_came_stays_invalid_and_zero() -> None:
    slide = Pyramid((2000, 1000), (1.0,), 1.0, 1.0, "recorded", (0, 0, 2000, 1000))
    grid, _ = map_grid_for(slide, SPECS[0])
    tiles = lay_tiles(slide, SPECS[0], np.ones(grid.shape, np.float32))
    stitcher = Stitcher(tiles, 2)
    given_tiles = np.array([i for i in range(len(tiles)) if i != 2], np.int64)
    stitcher.add(given_tiles, np.full((len(given_tiles), 2, 32, 32), 0.5))
    row, column = tiles.cells_map_px[2]
    lost = np.zeros(grid.shape, bool)
    lost[row : row + 28, column : column + 28] = True
    assert (stitcher.valid == ~lost).all()
    assert not stitcher.probability[:, lost].any()


def test_more_maps_than_tiles_is_an_error() -> None:
    slide = Pyramid((512, 512), (1.0,), 1.0, 1.0, "recorded", (0, 0, 512, 512))
    tiles = lay_tiles(slide, SPECS[2], np.ones((32, 32), np.float32))
    with pytest.raises(ValueError, match="zip"):
        Stitcher(tiles, 2).add(np.array([0]), np.zeros((2, 2, 4, 4)))
