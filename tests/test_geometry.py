"""Pixel arithmetic: what is read, where tiles lie, and that no area is lost between lattices."""

from math import isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.errors import SlideRefused
from histo.geometry import (
    SAME_AXES,
    SAME_SCALE,
    MapGrid,
    Pyramid,
    TileSpec,
    cover,
    cut,
    is_credible_mpp,
    lay_tiles,
    look_up,
    map_grid_for,
    plan_read,
    rebin,
    round_px,
    tile_lattice,
)

SPEC = TileSpec(size_px=512, mpp=1.0, stride_px=16, margin_px=32)
scales = st.floats(0.05, 5.0)


def pyramid(
    size: tuple[int, int] = (4000, 3000),
    mpp: float | tuple[float, float] = 0.25,
    downsamples: tuple[float, ...] = (1.0, 4.0),
    bounds: tuple[int, int, int, int] | None = None,
) -> Pyramid:
    mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    return Pyramid(size, downsamples, mpp_x, mpp_y, "recorded", bounds or (0, 0, *size))


@st.composite
def pyramids(draw: st.DrawFn) -> Pyramid:
    mpp_x = draw(scales)
    steps = draw(st.lists(st.floats(1.05, 5), max_size=6))
    downsamples = tuple(float(d) for d in np.cumprod([1.0, *steps]))
    size = draw(st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
    x, y = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    bounds = (x, y, draw(st.integers(1, size[0] - x)), draw(st.integers(1, size[1] - y)))
    return pyramid(size, (mpp_x, mpp_x * draw(st.floats(0.5, 2))), downsamples, bounds)


@st.composite
def lattices(draw: st.DrawFn, low: float = -500, high: float = 500) -> MapGrid:
    origin = draw(st.tuples(st.floats(low, high), st.floats(low, high)))
    cell = draw(st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)))
    return MapGrid(origin, cell, draw(st.tuples(st.integers(1, 14), st.integers(1, 14))), cell)


def corners(grid: MapGrid) -> NDArray[np.float64]:
    return grid.to_level0_px(np.array([[0, 0], grid.shape[::-1]], float))


# One rounding rule


@given(st.integers(-(10**6), 10**6))
def test_halves_round_up_on_both_sides_of_zero(n: int) -> None:
    assert round_px(n + 0.5) == n + 1
    assert round_px(n + 0.49) == round_px(n) == n


@pytest.mark.parametrize("mpp", [0.05, 0.25, 5.0])
def test_scales_of_microscopes_are_credible(mpp: float) -> None:
    assert is_credible_mpp(mpp)


@pytest.mark.parametrize("mpp", [0, -0.5, 0.0499, 5.01, 250, 1e-300, float("inf"), float("nan")])
def test_other_scales_are_not_credible(mpp: float) -> None:
    assert not is_credible_mpp(mpp)


# What a tile must be


@pytest.mark.parametrize(("size", "stride", "margin"), [(500, 16, 32), (512, 16, 30), (512, 32, 16)])
def test_tile_size_and_margin_must_be_multiples_of_the_stride(size: int, stride: int, margin: int) -> None:
    with pytest.raises(ValueError, match=f"multiples of {stride}"):
        TileSpec(size, 1.0, stride, margin)


@pytest.mark.parametrize("margin", [256, 512])
def test_a_margin_must_leave_something_of_the_tile(margin: int) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        TileSpec(512, 1.0, 16, margin)


def test_cells_of_a_tile_are_margins_and_kept() -> None:
    assert (SPEC.map_cells, SPEC.margin_cells, SPEC.kept_cells) == (32, 2, 28)


# What is read


@given(pyramids(), scales, st.sampled_from([64, 224, 512, 1024]))
@settings(deadline=None)
def test_a_tile_is_never_upsampled_by_more_than_5_percent(slide: Pyramid, mpp: float, size: int) -> None:
    if max(slide.mpp_x, slide.mpp_y) > mpp * (1 + SAME_SCALE):
        with pytest.raises(SlideRefused) as caught:
            plan_read(slide, mpp, size)
        assert caught.value.code == "too_coarse"
        return
    plan = plan_read(slide, mpp, size)
    # Half a pixel is what rounding the size may cost.
    assert min(plan.size_read_px) >= size / (1 + SAME_SCALE) - 0.5


@given(pyramids(), scales, st.sampled_from([64, 224, 512, 1024]))
@settings(deadline=None)
def test_a_tile_covers_the_wanted_physical_size(slide: Pyramid, mpp: float, size: int) -> None:
    if max(slide.mpp_x, slide.mpp_y) > mpp * (1 + SAME_SCALE):
        return
    plan = plan_read(slide, mpp, size)
    unscaled = plan.size_read_px == (size, size)
    for axis, slide_mpp in enumerate((slide.mpp_x, slide.mpp_y)):
        read_mpp = slide_mpp * slide.downsamples[plan.level]
        covered = plan.tile_px_level0[axis] * slide_mpp
        assert isclose(covered, plan.size_read_px[axis] * read_mpp / size)
        tolerance = SAME_SCALE if unscaled else 0.5 * read_mpp / (size * mpp)
        assert abs(covered / mpp - 1) <= tolerance + 1e-9


@given(pyramids(), scales)
@settings(deadline=None)
def test_the_coarsest_level_that_is_fine_enough_is_read(slide: Pyramid, mpp: float) -> None:
    coarsest = max(slide.mpp_x, slide.mpp_y)
    if coarsest > mpp * (1 + SAME_SCALE):
        return
    level = plan_read(slide, mpp, 512).level
    coarser = [d for d in slide.downsamples if d > slide.downsamples[level]]
    assert all(coarsest * d > mpp * (1 + SAME_SCALE) for d in coarser)


def test_a_tile_of_a_slide_at_an_odd_scale_covers_what_the_model_asks_for() -> None:
    slide = pyramid(mpp=0.35, downsamples=(1.0, 2.0, 4.0))  # 0.7 µm/px is the nearest finer level
    plan = plan_read(slide, 1.0, 512)
    assert plan.level == 1
    assert plan.tile_px_level0[0] * 512 * 0.35 == pytest.approx(512, abs=0.35)


@pytest.mark.parametrize(("mpp", "unscaled"), [(0.96, True), (1.04, True), (1.05, True), (0.94, False)])
def test_a_level_within_5_percent_is_read_as_it_is(mpp: float, unscaled: bool) -> None:
    plan = plan_read(pyramid(mpp=mpp, downsamples=(1.0,)), 1.0, 512)
    assert (plan.size_read_px == (512, 512)) is unscaled


def test_a_scan_more_than_5_percent_too_coarse_is_refused_with_both_scales() -> None:
    with pytest.raises(SlideRefused, match=r"0\.53 µm per pixel and the model needs 0\.5") as caught:
        plan_read(pyramid(mpp=0.53), 0.5, 512)
    assert caught.value.code == "too_coarse"


def test_one_coarse_axis_is_enough_to_refuse() -> None:
    with pytest.raises(SlideRefused):
        plan_read(pyramid(mpp=(0.5, 1.2), downsamples=(1.0,)), 1.0, 512)


def test_different_axes_are_resampled_each_on_its_own() -> None:
    plan = plan_read(pyramid(mpp=(0.25, 0.5), downsamples=(1.0,)), 1.0, 512)
    assert plan.size_read_px == (2048, 1024)
    assert plan.tile_px_level0 == (4.0, 2.0)


def test_axes_that_differ_by_more_than_2_percent_are_resampled_even_near_the_scale() -> None:
    plan = plan_read(pyramid(mpp=(0.97, 1.02), downsamples=(1.0,)), 1.0, 512)
    assert SAME_AXES < 1.02 / 0.97 - 1
    assert plan.size_read_px == (528, 502)


# Where lattices lie


@given(pyramids(), st.tuples(st.floats(0.7, 400), st.floats(0.7, 400)))
def test_cover_reaches_every_pixel_of_the_bounds_and_less_than_a_cell_further(
    slide: Pyramid, cell: tuple[float, float]
) -> None:
    grid = cover(slide, cell)
    (x0, y0), (x1, y1) = corners(grid)
    x, y, width, height = slide.bounds_level0_px
    assert (x0, y0) == (x, y)
    assert x + width - 1e-6 <= x1 < x + width + cell[0] + 1e-6
    assert y + height - 1e-6 <= y1 < y + height + cell[1] + 1e-6
    assert grid.cell_um == (cell[0] * slide.mpp_x, cell[1] * slide.mpp_y)


def test_a_lattice_that_ends_on_the_border_gains_no_cell_by_rounding() -> None:
    cell = 2026 / 512 * 16
    slide = pyramid((round(cell * 32), 3 * 2026), mpp=0.2527)
    assert cover(slide, (cell, cell)).shape == (96, 32)


@given(lattices(), st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1, max_size=5))
def test_level0_and_lattice_coordinates_are_each_others_inverse(
    grid: MapGrid, points: list[tuple[float, float]]
) -> None:
    there = grid.to_level0_px(np.array(points))
    assert np.allclose(grid.to_map_px(there), points, atol=1e-6)


@given(lattices(), st.data())
def test_a_window_is_a_part_of_its_lattice(grid: MapGrid, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, grid.shape[0] - 1))
    column = data.draw(st.integers(0, grid.shape[1] - 1))
    window = grid.window(row, column, (1, 2))
    assert (window.shape, window.cell_level0_px, window.cell_um) == ((1, 2), grid.cell_level0_px, grid.cell_um)
    assert np.allclose(window.to_level0_px(np.array([[0.5, 0.5]])), grid.to_level0_px([[column + 0.5, row + 0.5]]))


def test_a_tile_s_lattice_has_its_own_pixels() -> None:
    slide = pyramid(mpp=(0.25, 0.5), downsamples=(1.0,))
    plan = plan_read(slide, 1.0, 512)
    grid = tile_lattice((-100.0, 40.0), plan, slide)
    assert (grid.origin_level0_px, grid.shape) == ((-100.0, 40.0), (512, 512))
    assert grid.cell_level0_px == (4.0, 2.0)
    assert grid.cell_um == (1.0, 1.0)
    assert grid.cell_mm2 == pytest.approx(1e-6)


def test_pixel_and_cell_areas_agree() -> None:
    slide = pyramid(mpp=(0.25, 0.4))
    assert slide.pixel_mm2 == pytest.approx(1e-7)
    assert cover(slide, (10, 20)).cell_mm2 == pytest.approx(200 * slide.pixel_mm2)


# Tiles


@st.composite
def tissues(draw: st.DrawFn) -> tuple[Pyramid, TileSpec, NDArray[np.float32]]:
    spec = draw(
        st.sampled_from([SPEC, TileSpec(256, 0.5, 16, 32), TileSpec(64, 2.0, 32, 0), TileSpec(96, 1.0, 32, 32)])
    )
    slide = draw(pyramids().filter(lambda p: max(p.mpp_x, p.mpp_y) <= spec.mpp * 1.04))
    grid, _ = map_grid_for(slide, spec)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tissue = rng.random(grid.shape, np.float32) * (rng.random(grid.shape) < draw(st.floats(0, 0.2)))
    return slide, spec, tissue


@given(tissues())
@settings(deadline=None, max_examples=60)
def test_every_tissue_cell_is_a_kept_cell_of_exactly_one_tile(case: tuple[Pyramid, TileSpec, NDArray]) -> None:
    slide, spec, tissue = case
    tiles = lay_tiles(slide, spec, tissue)
    kept = spec.kept_cells
    count = np.zeros(tuple(n + kept for n in tissue.shape), int)
    for row, column in tiles.cells_map_px:
        count[row : row + kept, column : column + kept] += 1
    count = count[: tissue.shape[0], : tissue.shape[1]]
    assert count.max(initial=0) <= 1
    assert (count[tissue > 0] == 1).all()
    assert len(tiles) == len(tiles.positions_level0_px) == len(tiles.cells_map_px)
    # No tile is read for nothing.
    for row, column in tiles.cells_map_px:
        assert tissue[row : row + kept, column : column + kept].any()


@given(tissues())
@settings(deadline=None, max_examples=60)
def test_a_tile_s_kept_corner_lies_on_its_map_cell_within_half_a_pixel(case: tuple[Pyramid, TileSpec, NDArray]) -> None:
    slide, spec, tissue = case
    tiles = lay_tiles(slide, spec, tissue)
    for position, (row, column) in zip(tiles.positions_level0_px, tiles.cells_map_px, strict=True):
        own = tile_lattice((float(position[0]), float(position[1])), tiles.plan, slide)
        for cells in (0, spec.kept_cells):  # both corners: no drift across a tile
            at = own.to_level0_px(np.array([[spec.margin_px + cells * spec.stride_px] * 2], float))
            assert np.abs(at - tiles.map_grid.to_level0_px(np.array([[column + cells, row + cells]], float))).max() <= (
                0.5 + 1e-6
            )


def test_no_drift_adds_up_over_a_large_slide() -> None:
    slide = pyramid((100_000, 100_000), 0.2527, (1.0, 4.0003, 16.01))
    spec = TileSpec(512, 0.5, 16, 32)
    grid, plan = map_grid_for(slide, spec)
    tissue = np.zeros(grid.shape, np.float32)
    tissue[-1, -1] = tissue[0, 0] = 1
    tiles = lay_tiles(slide, spec, tissue)
    assert tiles.positions_level0_px[0].tolist() == [round_px(-32 * plan.tile_px_level0[0])] * 2
    row, column = tiles.cells_map_px[-1]
    cell = grid.cell_level0_px[0]
    last = tiles.positions_level0_px[-1] + 32 * plan.tile_px_level0[0]
    assert np.abs(last - np.array([column, row]) * cell).max() <= 0.5
    # The far corner of the slide lies in the last cell, whose side is right to a part in ten thousand.
    assert grid.shape[0] * cell >= 100_000 > (grid.shape[0] - 1) * cell
    assert grid.cell_um[0] == pytest.approx(8.0, rel=1e-3)


def test_tiles_start_one_margin_outside_the_bounds() -> None:
    slide = pyramid((9000, 7000), 0.5, (1.0,), bounds=(1200, 700, 4096, 2048))
    grid, _ = map_grid_for(slide, SPEC)
    tiles = lay_tiles(slide, SPEC, np.ones(grid.shape, np.float32))
    assert tiles.positions_level0_px.min(axis=0).tolist() == [1200 - 64, 700 - 64]
    assert grid.shape == (64, 128)


def test_no_tissue_no_tiles() -> None:
    grid, _ = map_grid_for(pyramid(), SPEC)
    tiles = lay_tiles(pyramid(), SPEC, np.zeros(grid.shape, np.float32))
    assert len(tiles) == 0
    assert tiles.positions_level0_px.shape == tiles.cells_map_px.shape == (0, 2)


def test_a_tissue_map_of_another_lattice_is_refused() -> None:
    with pytest.raises(ValueError, match="slide map"):
        lay_tiles(pyramid(), SPEC, np.zeros((3, 3), np.float32))


@pytest.mark.parametrize("size", [(1, 1), (257, 1), (1, 300), (300, 200)])
def test_a_slide_smaller_than_a_tile_gets_one_tile(size: tuple[int, int]) -> None:
    slide = pyramid(size, 0.5, (1.0,))
    grid, _ = map_grid_for(slide, SPEC)
    assert len(lay_tiles(slide, SPEC, np.ones(grid.shape, np.float32))) == 1


# From one lattice to another


@given(lattices(0, 100), lattices(0, 100), st.integers(0, 2**32))
def test_rebin_keeps_the_integral_where_the_target_covers_the_source(a: MapGrid, b: MapGrid, seed: int) -> None:
    values = np.random.default_rng(seed).random(a.shape)
    (left, top), (right, bottom) = corners(a)
    # A target with b's cells around a.
    shape = (int((bottom - top) / b.cell_level0_px[1]) + 3, int((right - left) / b.cell_level0_px[0]) + 3)
    origin = (left - 0.7 * b.cell_level0_px[0], top - 0.3 * b.cell_level0_px[1])
    target = MapGrid(origin, b.cell_level0_px, shape, b.cell_um)
    area = a.cell_level0_px[0] * a.cell_level0_px[1]
    moved = rebin(values, a, target).sum(dtype=float) * target.cell_level0_px[0] * target.cell_level0_px[1]
    assert moved == pytest.approx(values.sum() * area, rel=1e-4)


@given(lattices(-40, 40), lattices(-40, 40), st.integers(0, 2**32))
def test_rebin_is_the_area_weighted_mean(a: MapGrid, b: MapGrid, seed: int) -> None:
    values = np.random.default_rng(seed).random(a.shape)

    def overlaps(axis: int) -> NDArray[np.float64]:
        k = 1 - axis
        edges = [g.origin_level0_px[k] + g.cell_level0_px[k] * np.arange(g.shape[axis] + 1) for g in (a, b)]
        low = np.maximum(edges[0][None, :-1], edges[1][:-1, None])
        return np.clip(np.minimum(edges[0][None, 1:], edges[1][1:, None]) - low, 0, None)

    wanted = overlaps(0) @ values @ overlaps(1).T / (b.cell_level0_px[0] * b.cell_level0_px[1])
    assert np.allclose(rebin(values, a, b), wanted, atol=1e-4)


@given(lattices(), st.integers(0, 2**32))
def test_rebin_onto_itself_changes_nothing(grid: MapGrid, seed: int) -> None:
    values = np.random.default_rng(seed).random(grid.shape).astype(np.float32)
    assert np.allclose(rebin(values, grid, grid), values, atol=1e-5)


@given(lattices(), lattices())
def test_rebin_of_a_mask_stays_a_fraction_and_finds_nothing_where_nothing_is(a: MapGrid, b: MapGrid) -> None:
    assert not rebin(np.zeros(a.shape, bool), a, b).any()
    assert rebin(np.ones(a.shape, bool), a, b).max() <= 1 + 1e-6


def test_rebin_outside_the_source_is_zero() -> None:
    source = MapGrid((0, 0), (1, 1), (4, 4), (1, 1))
    assert not rebin(np.ones((4, 4)), source, MapGrid((10, 10), (2, 2), (3, 3), (2, 2))).any()
    half = rebin(np.ones((4, 4)), source, MapGrid((2, 0), (4, 4), (1, 1), (4, 4)))
    assert half.tolist() == [[0.5]]


@given(lattices(-40, 40), lattices(-40, 40), st.integers(0, 2**32))
def test_look_up_finds_the_cell_under_the_middle(a: MapGrid, b: MapGrid, seed: int) -> None:
    values = np.random.default_rng(seed).random(a.shape).astype(np.float32)
    found = look_up(values, a, b)
    assert found.shape == b.shape
    rows, columns = np.indices(b.shape)
    middles = b.to_level0_px(np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1))
    x, y = a.to_map_px(middles).T
    # A middle on a border may count to either side.
    near = (np.abs(x - np.round(x)) > 1e-6) & (np.abs(y - np.round(y)) > 1e-6)
    x, y = np.clip(np.floor(x).astype(int), 0, a.shape[1] - 1), np.clip(np.floor(y).astype(int), 0, a.shape[0] - 1)
    assert np.array_equal(found.ravel()[near], values[y, x][near])


def test_some_tiles_keep_their_places_and_their_kept_parts_cover_the_map_once() -> None:
    grid, _ = map_grid_for(pyramid(), SPEC)
    tiles = lay_tiles(pyramid(), SPEC, np.ones(grid.shape))
    covered = np.zeros(grid.shape, int)
    for box in tiles.kept_boxes():
        covered[box] += 1
    assert (covered == 1).all()
    chosen = np.arange(len(tiles)) % 2 == 1
    some = tiles.some(chosen)
    assert len(some) == chosen.sum()
    assert np.array_equal(some.positions_level0_px, tiles.positions_level0_px[chosen])
    assert list(some.kept_boxes()) == list(tiles.kept_boxes())[1::2]


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 20))
def test_a_cut_holds_what_lies_under_it_and_a_filling_beyond(left: int, top: int, side: int) -> None:
    grid = MapGrid((100.0, 50.0), (4.0, 8.0), (12, 17), (2.0, 4.0))
    values = np.arange(12 * 17, dtype=np.uint8).reshape(12, 17)
    square = cut(values, grid, (100 + 4 * left + 1.9, 50 + 8 * top - 3.9), side, 255)
    wide = np.full((12 + 100, 17 + 100), 255, np.uint8)
    wide[50:62, 50:67] = values
    assert np.array_equal(square, wide[50 + top : 50 + top + side, 50 + left : 50 + left + side])


@given(
    st.integers(300, 2000), st.integers(300, 2000), st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.2527, 0.5, 1.0])
)
def test_tiles_divided_cover_the_same_tissue_once(width, height, seed, mpp):
    rng = np.random.default_rng(seed)
    pyramid = Pyramid((width, height), (1.0, 4.0), mpp, mpp, "recorded", (0, 0, width, height))
    spec = TileSpec(128, 1.0, 16, 16)
    grid, _ = map_grid_for(pyramid, spec)
    tissue = (rng.random(grid.shape) < 0.1).astype(np.float32)
    tiles = lay_tiles(pyramid, spec, tissue)
    windows = tiles.split(pyramid, 3, tissue)
    assert windows.map_grid == tiles.map_grid
    assert (windows.spec.kept_cells, windows.spec.margin_px, windows.spec.size_px) == (2, 16, 64)
    seen = np.zeros(grid.shape, int)
    for box in windows.kept_boxes():
        assert tissue[box].any()
        seen[box] += 1
    assert (seen[tissue > 0] == 1).all()
    # A window's pixel (0, 0) is where the tile's is, to the rounding of what is read.
    wanted = grid.to_level0_px(windows.cells_map_px[:, ::-1] - 1.0)
    np.testing.assert_allclose(windows.positions_level0_px, wanted, atol=0.5)
    assert tiles.split(pyramid, 1, tissue) is tiles
    with pytest.raises(ValueError, match="6 kept cells cannot be divided by 4"):
        tiles.split(pyramid, 4, tissue)
