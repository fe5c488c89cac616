"""Between masks and polygons: what is traced is painted back, and measured as it is."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from histo.geometry import MapGrid
from histo.outlines import (
    Outline,
    area_px2,
    around,
    box_ring,
    cells_inside,
    ellipse_ring,
    feret_mm,
    meet,
    mend,
    paint,
    polygons_of,
    simplify,
    stencil,
    to_polygon,
    trace,
)

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
fields = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=10), elements=st.floats(0, 1, width=16)
)  # slide maps are float16
places = st.tuples(
    st.tuples(st.floats(-1000, 1e5), st.floats(-1000, 1e5)), st.tuples(st.floats(0.5, 200), st.floats(0.5, 200))
)


def lattice(
    shape: tuple[int, ...], origin: tuple[float, float] = (0, 0), cell: tuple[float, float] = (1, 1)
) -> MapGrid:
    return MapGrid(origin, cell, (shape[0], shape[1]), cell)


def square(x: float, y: float, side: float) -> tuple[tuple[float, float], ...]:
    return ((x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y))


def painted(outlines: list[Outline], grid: MapGrid) -> NDArray[np.uint8]:
    canvas = np.zeros(grid.shape, np.uint8)
    paint(canvas, outlines, grid, 1)
    return canvas


# There and back


@pytest.mark.parametrize("outlines_of", [trace, around])
@given(masks, places)
@settings(deadline=None)
def test_painting_the_outlines_of_a_mask_gives_the_mask(
    outlines_of: Callable[..., list[Outline]],
    mask: NDArray[np.bool_],
    place: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    grid = lattice(mask.shape, *place)
    assert painted(outlines_of(mask, grid), grid).astype(bool).tolist() == mask.tolist()


@given(masks, places)
@settings(deadline=None)
def test_the_outlines_around_cells_have_their_area(
    mask: NDArray[np.bool_], place: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    """Regression: traced between its cells a deposit of one cell had half of its area, one of four 7 of 8 parts."""
    grid = lattice(mask.shape, *place)
    cell_px2 = grid.cell_level0_px[0] * grid.cell_level0_px[1]
    assert sum(map(area_px2, around(mask, grid))) == pytest.approx(mask.sum() * cell_px2, rel=1e-6)


def test_a_mask_in_very_many_pieces_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The union of their cells would take minutes."""
    mask, grid = np.eye(9, dtype=bool)[::2], lattice((5, 9))
    monkeypatch.setattr("histo.outlines._MOST_RUNS", 4)
    assert around(mask, grid) == trace(mask, grid)
    monkeypatch.setattr("histo.outlines._MOST_RUNS", 5)
    assert around(mask, grid) != trace(mask, grid)


RING = np.pad(np.pad(np.zeros((1, 1), bool), 1, constant_values=True), 1)


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.ones((1, 1), bool), id="one-cell"),
        pytest.param(np.ones((4, 6), bool), id="all-of-it"),
        pytest.param(np.zeros((3, 3), bool), id="nothing"),
        pytest.param(RING, id="hole"),
        pytest.param(np.eye(5, dtype=bool), id="diagonal"),
        pytest.param(np.arange(20).reshape(4, 5) % 5 == 0, id="border-column"),
    ],
)
@pytest.mark.parametrize("cell", [(1.0, 1.0), (63.3, 17.1)])
def test_simple_masks_come_back(mask: NDArray[np.bool_], cell: tuple[float, float]) -> None:
    grid = lattice(mask.shape, (1200.5, -7), cell)
    assert painted(trace(mask, grid), grid).astype(bool).tolist() == mask.tolist()


@given(st.integers(1, 40), st.floats(0, 20), st.floats(0, 20), st.floats(5, 20))
@settings(deadline=None)
def test_painting_sets_the_cells_whose_centres_lie_inside(n: int, x: float, y: float, side: float) -> None:
    """No more: fillPoly alone also draws the border, which makes every label half a cell too large."""
    grid = lattice((n, n))
    centres = np.arange(n) + 0.5
    near = 1 / 128  # paint may round corners to fixed point
    inside = ((centres > x + near) & (centres < x + side - near), (centres > y + near) & (centres < y + side - near))
    around = ((centres > x - near) & (centres < x + side + near), (centres > y - near) & (centres < y + side + near))
    found = painted([(square(x, y, side),)], grid).astype(bool)
    assert found[np.outer(inside[1], inside[0])].all()
    assert not found[~np.outer(around[1], around[0])].any()


def test_painted_area_is_the_outline_s_area() -> None:
    outline = polygons_of(shapely.Point(500.3, 499.8).buffer(300, 64))[0]
    grid = lattice((63, 63), (0, 0), (16, 16))
    assert painted([outline], grid).sum() * 256 == pytest.approx(area_px2(outline), rel=0.02)


def test_painting_leaves_holes_and_everything_else_alone() -> None:
    canvas = np.full((10, 10), 7, np.uint8)
    paint(canvas, [(square(1, 1, 8), square(3, 3, 4))], lattice((10, 10)), 2)
    wanted = np.full((10, 10), 7, np.uint8)
    wanted[1:9, 1:9] = 2
    wanted[3:7, 3:7] = 7
    assert canvas.tolist() == wanted.tolist()


@pytest.mark.parametrize("at", [(-50, 3), (3, -50), (60, 3), (3, 60), (1e9, 1e9)])
def test_an_outline_off_the_lattice_paints_nothing(at: tuple[float, float]) -> None:
    assert not painted([(square(*at, 20),)], lattice((30, 30))).any()


@pytest.mark.parametrize("side", [1e5, 1e7, 2e8])
def test_an_outline_far_larger_than_the_lattice_fills_it(side: float) -> None:
    assert painted([(square(-side / 2, -side / 2, side),)], lattice((30, 20))).all()


def painted_plainly(outline: Outline, grid: MapGrid) -> NDArray[np.bool_]:
    """The even-odd rule edge by edge, in the same arithmetic: what any faster painting must give to the bit."""
    rows, columns = grid.shape
    crossings = np.zeros((rows, columns + 1), int)
    for ring in outline:
        xy = (grid.to_map_px(np.asarray(ring)) - 0.5).tolist()
        for (x0, y0), (x1, y1) in itertools.pairwise(xy):
            low, high = (min(max(int(np.ceil(f(y0, y1))), 0), rows) for f in (min, max))
            for row in range(low, high):
                at = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
                crossings[row, min(max(int(np.ceil(at)), 0), columns)] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


corners = st.lists(st.tuples(st.floats(-15, 45), st.floats(-15, 45)), min_size=3, max_size=9)


@given(st.lists(corners, min_size=1, max_size=3), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_fast_painting_sets_the_very_cells_of_the_plain_rule(
    rings: list[list[tuple[float, float]]], at: tuple[int, int]
) -> None:
    outline = tuple((*ring, ring[0]) for ring in rings)
    shell = np.asarray(outline[0])
    grid = MapGrid((float(at[0]), float(at[1])), (1.0, 1.0), (24, 30), (1.0, 1.0))
    wanted = painted_plainly(outline, grid)
    # Holes lie inside their shell, so nothing is painted outside its box.
    centres = np.stack(np.meshgrid(np.arange(30) + 0.5, np.arange(24) + 0.5), axis=-1) + at
    wanted &= ((centres >= shell.min(axis=0)) & (centres <= shell.max(axis=0))).all(axis=-1)
    assert painted([outline], grid).astype(bool).tolist() == wanted.tolist()


@given(corners, st.tuples(st.integers(-40, 40), st.integers(-40, 40)))
def test_a_stencil_paints_what_its_outline_does_wherever_the_lattice_lies(
    ring: list[tuple[float, float]], at: tuple[int, int]
) -> None:
    outline: Outline = ((*ring, ring[0]), square(3, 4, 2.5))
    ready = stencil(outline)
    assert stencil(ready) is ready
    grid = lattice((20, 25), at, (0.7, 1.3))
    canvas = np.zeros(grid.shape, np.uint8)
    paint(canvas, [ready], grid, 1)
    assert canvas.tolist() == painted([outline], grid).tolist()


# Tracing


@given(fields, st.floats(0.05, 0.95), places)
@settings(deadline=None)
def test_every_traced_outline_is_valid_and_closed_with_area(
    field: NDArray[np.float32], level: float, place: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    outlines = trace(field, lattice(field.shape, *place), level)
    areas = [area_px2(o) for o in outlines]
    assert areas == sorted(areas, reverse=True)
    for outline, area in zip(outlines, areas, strict=True):
        assert area > 0
        assert to_polygon(outline).is_valid
        assert all(ring[0] == ring[-1] and len(ring) >= 4 for ring in outline)
    assert bool(outlines) or not (field > level).any()


@given(fields, st.floats(0.05, 0.95))
@settings(deadline=None)
def test_centres_above_the_level_lie_inside_and_those_below_outside(field: NDArray[np.float32], level: float) -> None:
    region = shapely.union_all([to_polygon(o) for o in trace(field, lattice(field.shape), level)])
    rows, columns = np.indices(field.shape)
    distance = shapely.distance(region, shapely.points(columns + 0.5, rows + 0.5)) if not region.is_empty else None
    above, below = field > level + 1e-3, field < level - 1e-3
    if distance is None:
        assert not above.any()
        return
    assert (distance[above] < 1e-6).all()
    assert not shapely.contains_xy(region, columns[below] + 0.5, rows[below] + 0.5).any()


def test_a_block_of_cells_loses_no_more_than_its_corners() -> None:
    grid = lattice((20, 30), (100, 200), (16, 8))
    mask = np.zeros((20, 30), bool)
    mask[4:14, 5:25] = True
    (outline,) = trace(mask, grid)
    assert area_px2(outline) == pytest.approx((20 * 10 - 0.5) * 16 * 8)
    assert to_polygon(outline).bounds == (100 + 5 * 16, 200 + 4 * 8, 100 + 25 * 16, 200 + 14 * 8)


def test_a_cell_exactly_at_the_level_belongs_to_the_region() -> None:
    field = np.zeros((5, 5))
    field[1:4, 1:4] = 0.5
    (outline,) = trace(field, lattice((5, 5)), 0.5)
    assert area_px2(outline) >= 4  # through the centres of the outer cells


def test_the_level_decides_where_the_outline_runs() -> None:
    field = np.tile(np.linspace(0.05, 0.95, 10), (6, 1))  # cell k has 0.05 + 0.1 k
    for level in (0.3, 0.5, 0.8):
        (outline,) = trace(np.pad(field, ((0, 0), (0, 6)), mode="edge"), lattice((6, 16)), level)
        assert to_polygon(outline).bounds[0] == pytest.approx(level * 10, abs=1e-6)


def test_a_hole_is_a_ring_of_its_own() -> None:
    (outline,) = trace(RING, lattice(RING.shape))
    assert len(outline) == 2
    assert area_px2(outline) == pytest.approx(9 - 0.5 - 0.5)


# Repair, simplification, measures


def test_a_bow_tie_becomes_two_polygons() -> None:
    outlines = polygons_of(shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]))
    assert len(outlines) == 2
    assert [area_px2(o) for o in outlines] == [25, 25]
    assert all(to_polygon(o).is_valid for o in outlines)


def test_a_multipolygon_gives_every_part_and_lines_give_none() -> None:
    two = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 0, 5, 1)])
    assert sorted(area_px2(o) for o in polygons_of(two)) == [1, 2]
    mixed = shapely.GeometryCollection([two, shapely.LineString([(0, 0), (9, 9)]), shapely.Point(1, 1)])
    assert sorted(area_px2(o) for o in polygons_of(mixed)) == [1, 2]
    assert polygons_of(shapely.Polygon()) == []
    assert polygons_of(shapely.Polygon([(0, 0), (5, 5), (9, 9)])) == []


@given(masks, st.floats(0, 5))
@settings(deadline=None)
def test_simplifying_keeps_outlines_valid_with_their_holes(mask: NDArray[np.bool_], tolerance: float) -> None:
    for outline in trace(mask, lattice(mask.shape)):
        simple = simplify(outline, tolerance)
        assert to_polygon(simple).is_valid
        assert len(simple) == len(outline)
        assert area_px2(simple) > 0
        assert sum(map(len, simple)) <= sum(map(len, outline))
        assert set(simple[0]) <= set(outline[0])


def test_simplifying_drops_what_is_within_the_tolerance_and_nothing_else() -> None:
    outline = (((0.0, 0.0), (50.0, 0.9), (100.0, 0.0), (100.0, 100.0), (50.0, 103.0), (0.0, 100.0), (0.0, 0.0)),)
    corners = set(simplify(outline, 1.0)[0])
    assert corners == {(0.0, 0.0), (100.0, 0.0), (100.0, 100.0), (50.0, 103.0), (0.0, 100.0)}


def test_feret_is_the_longest_distance_in_mm() -> None:
    outline = (((0.0, 0.0), (300.0, 0.0), (300.0, 400.0), (0.0, 400.0), (0.0, 0.0)),)
    assert feret_mm(outline, 1.0, 1.0) == pytest.approx(0.5)
    assert feret_mm(outline, 2.0, 0.5) == pytest.approx(np.hypot(600, 200) * 1e-3)


@given(st.floats(0, np.pi), st.floats(1, 500))
def test_feret_does_not_depend_on_the_direction(angle: float, length: float) -> None:
    thin = shapely.affinity.rotate(shapely.box(0, 0, length, 0.5), angle, use_radians=True)
    (outline,) = polygons_of(thin)
    assert feret_mm(outline, 1, 1) == pytest.approx(np.hypot(length, 0.5) * 1e-3)


# As someone drew them

SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))


def test_an_open_ring_is_closed() -> None:
    (outline,) = mend([SQUARE])
    assert outline[0][0] == outline[0][-1]
    assert area_px2(outline) == 100


def test_every_loop_of_a_crossing_ring_is_kept() -> None:
    assert sum(area_px2(o) for o in mend([((0, 0), (10, 10), (10, 0), (0, 10))])) == 50


def test_a_hole_over_the_edge_takes_only_what_is_inside() -> None:
    """Even-odd filling would turn the part outside into tissue of the class."""
    hole = ((8.0, 2.0), (14.0, 2.0), (14.0, 4.0), (8.0, 4.0))
    assert sum(area_px2(o) for o in mend([SQUARE, hole])) == 100 - 2 * 2


@given(st.floats(1.0, 4.0), st.floats(0.7, 1.0))
def test_a_lesion_that_was_gone_round_more_than_once_keeps_its_inside(turns: float, last: float) -> None:
    # Bug: by the even-odd rule an outline drawn twice round was next to nothing, and its lesion taught as normal.
    t = np.linspace(0, 1, round(100 * turns))
    angle, radius = 2 * np.pi * turns * t, 100 * (1 + (last - 1) * t)
    ring = tuple(zip((radius * np.cos(angle)).tolist(), (radius * np.sin(angle)).tolist(), strict=True))
    area = sum(area_px2(o) for o in mend([ring]))
    assert 0.98 * np.pi * (100 * last) ** 2 < area < 1.001 * np.pi * 100**2


def test_a_slit_to_a_hole_leaves_the_hole_out() -> None:
    slit = ((0, 0), (10, 0), (10, 10), (0, 10), (0, 5), (3, 5), (3, 7), (7, 7), (7, 3), (3, 3), (3, 5), (0, 5), (0, 0))
    assert sum(area_px2(o) for o in mend([slit])) == 100 - 4 * 4


@given(st.floats(1, 500), st.floats(1, 500), st.floats(-7, 7))
def test_boxes_and_ellipses_have_their_areas_however_turned(width: float, height: float, turn: float) -> None:
    for ring, area in (
        (box_ring((50, 70), (width, height), turn), width * height),
        (ellipse_ring((50, 70), (width, height), turn), np.pi * width * height / 4),
    ):
        assert ring[0] == ring[-1]
        assert abs(area_px2((ring,)) / area - 1) < 1e-3
        np.testing.assert_allclose(np.mean(ring[:-1], axis=0), (50, 70), atol=1e-6)


def test_areas_that_touch_meet() -> None:
    assert meet(SQUARE, tuple((x + 10, y) for x, y in SQUARE))
    assert not meet(SQUARE, tuple((x + 11, y) for x, y in SQUARE))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12))
def test_cells_inside_are_those_that_painting_fills(x: int, y: int, width: int, height: int) -> None:
    grid = MapGrid((0.0, 0.0), (2.0, 2.0), (12, 14), (1.0, 1.0))
    outline = (box_ring((x + width / 2, y + height / 2), (width, height)),)
    canvas = np.zeros(grid.shape, np.uint8)
    paint(canvas, [outline], grid, 1)
    found = {tuple(cell) for cell in cells_inside(outline, grid).tolist()}
    painted = {tuple(cell) for cell in np.argwhere(canvas).tolist()}
    inside = x < 28 and y < 24
    assert found == painted or (not painted and len(found) == inside)
