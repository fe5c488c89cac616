"""Deletion finds out a heatmap that points elsewhere."""

import numpy as np
import pytest

from histo.evaluation.deletion import SHARES
from histo.faithfulness import deletions, paint_over
from histo.geometry import Pyramid, TileSpec, lay_tiles, map_grid_for
from histo.infer import predict_slide
from histo.models.engine import Engines

SPEC = TileSpec(128, 1.0, 16, 32)


@pytest.fixture
def calcified(painted_cohort):
    return painted_cohort.parent / "s1.svs"


def heat_of(path, model, engines):
    slide_map = predict_slide(path, model, engines=engines).slide_map
    return slide_map.probability[2].astype(np.float32)


def test_painting_over_the_strongest_cells_takes_the_evidence_away(calcified, colour_model):
    engines = Engines(colour_model)
    heat = heat_of(calcified, colour_model, engines)
    found = deletions(engines, calcified, None, heat, 2)
    assert [d.share for d in found] == list(SHARES)
    assert found[-1].strongest > 5 > found[-1].anywhere + 4
    assert found == deletions(engines, calcified, None, heat, 2)


def test_a_map_that_points_elsewhere_is_found_out(calcified, colour_model):
    engines = Engines(colour_model)
    heat = heat_of(calcified, colour_model, engines)
    found = deletions(engines, calcified, None, 1 - heat, 2)
    assert found[-1].strongest <= found[-1].anywhere + 0.5


def test_what_cannot_be_looked_at_again_says_nothing(calcified, colour_model, tmp_path):
    engines = Engines(colour_model)
    assert deletions(engines, tmp_path / "gone.svs", None, np.zeros((3, 3)), 1) is None
    assert deletions(engines, calcified, None, np.zeros((3, 3)), 1) is None


def test_every_tile_paints_a_cell_in_the_same_place_with_the_same_square():
    pyramid = Pyramid((900, 700), (1.0,), 0.5, 0.5, "recorded", (0, 0, 900, 700))
    lattice, plan = map_grid_for(pyramid, SPEC)
    tiles = lay_tiles(pyramid, SPEC, np.ones(lattice.shape))
    cover = np.random.default_rng(0).random(lattice.shape) < 0.1
    donors = np.random.default_rng(1).integers(1, 255, (7, 16, 16, 3)).astype(np.uint8)
    stride = SPEC.stride_px
    seen = np.zeros((lattice.shape[0] * stride, lattice.shape[1] * stride, 3), np.uint8)
    for index in range(len(tiles)):
        tile = paint_over(np.zeros((128, 128, 3), np.uint8), tiles, index, cover, donors)
        top, left = ((int(v) - SPEC.margin_cells) * stride for v in tiles.cells_map_px[index])
        for y in range(0, 128, stride):
            for x in range(0, 128, stride):
                row, column = (top + y) // stride, (left + x) // stride
                inside = 0 <= row < lattice.shape[0] and 0 <= column < lattice.shape[1]
                square = tile[y : y + stride, x : x + stride]
                assert square.any() == (inside and cover[row, column])
                if square.any():
                    place = seen[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
                    assert not place.any() or np.array_equal(place, square)
                    place[:] = square
    assert plan.size_tile_px == 128
