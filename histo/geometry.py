"""Scales, pyramids, tile grids and map grids: the only place with pixel arithmetic.

Every stored coordinate is a level-0 pixel, x before y, from the top-left corner of level 0. Suffixes name
the space: `_level0_px`, `_read_px` (pixels of the level that is read), `_tile_px` (pixels that the network
sees), `_map_px` (cells of the slide map). Arrays are indexed (row, column), that is (y, x).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from histo.errors import SlideRefused

CREDIBLE_MPP = (0.05, 5.0)
STATED_MPP = 0.05  # by which two statements of one scale may differ
SAME_SCALE = 0.05  # a level this near to the wanted scale is read as it is (ADR 0001)
SAME_AXES = 0.02
_LINES = 64

ScaleSource = Literal["recorded", "user"]


def round_px(value: float) -> int:
    """Round to the nearest whole pixel, halves up: the one rounding rule of the project.

    >>> round_px(0.5), round_px(1.5), round_px(-0.5)
    (1, 2, 0)
    """
    return floor(value + 0.5)


def is_credible_mpp(mpp: float) -> bool:
    """Tell whether a scale in µm per level-0 pixel can be that of a light-microscope scan."""
    return CREDIBLE_MPP[0] <= mpp <= CREDIBLE_MPP[1]


@dataclass(frozen=True)
class Stage:
    """A scanner's own frame, in nm from the centre of the glass: where the scan's centre lies, and its pixel size.

    Annotations in this frame keep the recorded pixel size even when the user corrects the scale.
    """

    centre_nm: tuple[float, float]
    pixel_nm: tuple[float, float]


@dataclass(frozen=True)
class Pyramid:
    """A slide's geometry: sizes, downsamples, scale in µm per level-0 pixel and where the scale came from.

    `bounds_level0_px` (x, y, width, height) is the part that the scanner filled; all of level 0 where it
    says nothing. `stage` is the scanner's frame where the file records one (Hamamatsu). `recorded_mpp` (x, y) is what
    the file says of its scale, whatever was used.
    """

    size_level0_px: tuple[int, int]
    downsamples: tuple[float, ...]
    mpp_x: float
    mpp_y: float
    scale_source: ScaleSource
    bounds_level0_px: tuple[int, int, int, int]
    stage: Stage | None = None
    recorded_mpp: tuple[float, float] | None = None

    @property
    def pixel_mm2(self) -> float:
        """Area of one level-0 pixel in mm²."""
        return self.mpp_x * self.mpp_y * 1e-6


def same_mpp(one: float, other: float) -> bool:
    """Tell whether two statements of one scale, in µm per pixel, agree within 5 %.

    >>> same_mpp(0.499, 0.5), same_mpp(0.25, 0.5)
    (True, False)
    """
    return abs(one / other - 1) <= STATED_MPP


def from_stage(stage: Stage, size_level0_px: tuple[int, int], xy_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a scanner's nm (N, 2) from the centre of the glass into level-0 pixels.

    >>> from_stage(Stage((1000.0, -500.0), (250.0, 250.0)), (400, 200), np.array([[1250.0, -500.0]])).tolist()
    [[201.0, 100.0]]
    """
    return (np.asarray(xy_nm, float) - stage.centre_nm) / stage.pixel_nm + np.asarray(size_level0_px) / 2


@dataclass(frozen=True)
class TileSpec:
    """What the network sees: tile side, scale, the stride of its score map and the ring that is dropped."""

    size_px: int
    mpp: float
    stride_px: int
    margin_px: int

    def __post_init__(self) -> None:
        if self.size_px % self.stride_px or self.margin_px % self.stride_px:
            raise ValueError(
                f"tile size {self.size_px} and margin {self.margin_px} must be multiples of {self.stride_px}"
            )
        if self.kept_cells < 1:
            raise ValueError(f"a margin of {self.margin_px} px leaves nothing of a {self.size_px} px tile")

    @property
    def map_cells(self) -> int:
        """Side of a tile's score map, in cells."""
        return self.size_px // self.stride_px

    @property
    def margin_cells(self) -> int:
        """Width of the dropped ring, in cells."""
        return self.margin_px // self.stride_px

    @property
    def kept_cells(self) -> int:
        """Side of the part of the score map that is kept, in cells."""
        return self.map_cells - 2 * self.margin_cells


@dataclass(frozen=True)
class ReadPlan:
    """How a square tile is read: which level, how many of its pixels, and the level-0 size of a tile pixel."""

    level: int
    size_read_px: tuple[int, int]
    size_tile_px: int
    tile_px_level0: tuple[float, float]

    def centred(self, middle_level0_px: tuple[float, float]) -> tuple[int, int]:
        """Return the level-0 top-left of the tile around a point."""
        (x, y), (fx, fy) = middle_level0_px, self.tile_px_level0
        return round_px(x - self.size_tile_px * fx / 2), round_px(y - self.size_tile_px * fy / 2)


def plan_read(pyramid: Pyramid, mpp: float, size_px: int) -> ReadPlan:
    """Plan to read tiles of `size_px` at `mpp` from the coarsest level that is fine enough.

    A level within 5 % of the wanted scale is read as it is; any other is read finer and reduced. The
    level-0 size of a tile pixel follows from what is really read, so errors of rounding do not add up.

    Raises `SlideRefused` (`too_coarse`) when the scan is more than 5 % coarser than the wanted scale.

    >>> p = Pyramid((4000, 3000), (1.0, 4.0), 0.25, 0.25, "recorded", (0, 0, 4000, 3000))
    >>> plan_read(p, mpp=1.0, size_px=512)
    ReadPlan(level=1, size_read_px=(512, 512), size_tile_px=512, tile_px_level0=(4.0, 4.0))
    >>> plan_read(p, mpp=0.5, size_px=512)
    ReadPlan(level=0, size_read_px=(1024, 1024), size_tile_px=512, tile_px_level0=(2.0, 2.0))
    """
    scan = max(pyramid.mpp_x, pyramid.mpp_y)
    fine_enough = [i for i, d in enumerate(pyramid.downsamples) if scan * d <= mpp * (1 + SAME_SCALE)]
    if not fine_enough:
        raise SlideRefused(
            "too_coarse",
            f"the scan has {scan:.3g} µm per pixel{' as given' * (pyramid.scale_source == 'user')} and "
            f"the model needs {mpp:g} or finer; scan it again at a higher magnification or use a model for this scale",
        )
    level = max(fine_enough, key=lambda i: pyramid.downsamples[i])
    down = pyramid.downsamples[level]
    scale_x, scale_y = mpp / (pyramid.mpp_x * down), mpp / (pyramid.mpp_y * down)
    if max(abs(scale_x - 1), abs(scale_y - 1)) <= SAME_SCALE and abs(scale_x / scale_y - 1) <= SAME_AXES:
        return ReadPlan(level, (size_px, size_px), size_px, (down, down))
    width, height = round_px(size_px * scale_x), round_px(size_px * scale_y)
    return ReadPlan(level, (width, height), size_px, (width * down / size_px, height * down / size_px))


@dataclass(frozen=True)
class MapGrid:
    """A lattice over the slide: level-0 origin and cell size (x, y), shape (rows, columns), cell size in µm."""

    origin_level0_px: tuple[float, float]
    cell_level0_px: tuple[float, float]
    shape: tuple[int, int]
    cell_um: tuple[float, float]

    @property
    def cell_mm2(self) -> float:
        """Area of one cell in mm²."""
        return self.cell_um[0] * self.cell_um[1] * 1e-6

    def window(self, row: int, column: int, shape: tuple[int, int]) -> "MapGrid":
        """Return the lattice of the cells from (row, column) on, of the given shape."""
        x, y = self.to_level0_px(np.array([[column, row]], float))[0]
        return MapGrid((float(x), float(y)), self.cell_level0_px, shape, self.cell_um)

    def to_level0_px(self, xy_map_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn lattice coordinates (N, 2), cell corners at whole numbers, into level-0 pixels."""
        return np.asarray(xy_map_px, float) * self.cell_level0_px + self.origin_level0_px

    def to_map_px(self, xy_level0_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn level-0 pixels (N, 2) into lattice coordinates, cell corners at whole numbers."""
        return (np.asarray(xy_level0_px, float) - self.origin_level0_px) / self.cell_level0_px


def cover(pyramid: Pyramid, cell_level0_px: tuple[float, float]) -> MapGrid:
    """Lay a lattice of the given cell size over the scanned bounds; the last cells may reach past them."""
    x, y, width, height = pyramid.bounds_level0_px
    cx, cy = cell_level0_px
    # A lattice that ends on the border must not gain a cell from a rounding error.
    shape = (max(1, ceil(height / cy - 1e-9)), max(1, ceil(width / cx - 1e-9)))
    return MapGrid((float(x), float(y)), (cx, cy), shape, (cx * pyramid.mpp_x, cy * pyramid.mpp_y))


def rebin(values: NDArray[np.floating | np.bool_], source: MapGrid, target: MapGrid) -> NDArray[np.float32]:
    """Average `values` (H, W) on `source` over the cells of `target`, weighted by area; outside counts as zero.

    What a target cell gets times its area is exactly the integral of the source over it, so areas survive.
    """
    out: NDArray[Any] = np.asarray(values)
    if not out.any():
        return np.zeros(target.shape, np.float32)
    for axis, k in ((0, 1), (1, 0)):  # rows go with y, columns with x
        cells = target.shape[axis]
        edges = target.origin_level0_px[k] + target.cell_level0_px[k] * np.arange(cells + 1)
        at = np.clip((edges - source.origin_level0_px[k]) / source.cell_level0_px[k], 0, source.shape[axis])
        below = np.minimum(at.astype(int), source.shape[axis] - 1)
        moved = np.moveaxis(out, axis, 0)
        moved_out = np.empty((cells, moved.shape[1]))
        for start in range(0, moved.shape[1], _LINES):  # sums of a whole overview would take many times its size
            lines = moved[:, start : start + _LINES].astype(np.float64)
            total = np.concatenate([np.zeros_like(lines[:1]), np.cumsum(lines, axis=0)])
            integral = total[below] + (at - below)[:, None] * lines[below]
            moved_out[:, start : start + _LINES] = np.diff(integral, axis=0)
        out = np.moveaxis(moved_out, 0, axis) * (source.cell_level0_px[k] / target.cell_level0_px[k])
    return np.asarray(np.clip(out, 0, None), np.float32)


def look_up(values: NDArray[np.float32], source: MapGrid, target: MapGrid) -> NDArray[np.float32]:
    """Return for every cell of `target` the value (H, W) of the cell of `source` under its middle.

    Beyond the border of `source` its outermost cells count.
    """
    at = []
    for axis, k in ((0, 1), (1, 0)):  # rows go with y, columns with x
        middles = target.origin_level0_px[k] + target.cell_level0_px[k] * (np.arange(target.shape[axis]) + 0.5)
        cells = np.floor((middles - source.origin_level0_px[k]) / source.cell_level0_px[k]).astype(int)
        at.append(np.clip(cells, 0, source.shape[axis] - 1))
    return values[np.ix_(*at)]


def cut(
    values: NDArray[np.uint8], grid: MapGrid, corner_level0_px: tuple[float, float], side: int, outside: int
) -> NDArray[np.uint8]:
    """Cut a square of `side` cells out of `values` (H, W) on `grid`, its corner on the nearest cell's corner.

    Cells beyond the lattice get the value `outside`.
    """
    x, y = grid.to_map_px(np.array([corner_level0_px]))[0]
    left, top = round_px(float(x)), round_px(float(y))
    square = np.full((side, side), outside, values.dtype)
    rows, columns = values.shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, columns), min(top + side, rows)
    if x0 < x1 and y0 < y1:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = values[y0:y1, x0:x1]
    return square


@dataclass(frozen=True, eq=False)
class TileGrid:
    """The tiles to read: level-0 top-left (N, 2), first kept map cell (N, 2 as row, column), plan and map."""

    positions_level0_px: NDArray[np.int64]
    cells_map_px: NDArray[np.int64]
    plan: ReadPlan
    spec: TileSpec
    map_grid: MapGrid

    def __len__(self) -> int:
        return len(self.positions_level0_px)

    def some(self, chosen: NDArray[np.bool_ | np.int64]) -> "TileGrid":
        """Return the grid of the tiles that are `chosen`: a mask (N,), or their numbers."""
        positions, cells = self.positions_level0_px[chosen], self.cells_map_px[chosen]
        return replace(self, positions_level0_px=positions, cells_map_px=cells)

    def split(self, pyramid: Pyramid, parts: int, tissue: NDArray[np.floating]) -> "TileGrid":
        """Return smaller tiles on the same map, with the same margin: `parts` by `parts` for each of these.

        Those without `tissue` (H, W) in the kept part are left out. Raises `ValueError` where the kept part of a tile
        can't be divided so.
        """
        if parts == 1:
            return self
        kept, rest = divmod(self.spec.kept_cells, parts)
        if rest:
            raise ValueError(f"{self.spec.kept_cells} kept cells cannot be divided by {parts}")
        spec = replace(self.spec, size_px=(kept + 2 * self.spec.margin_cells) * self.spec.stride_px)
        steps = np.stack(np.meshgrid(range(parts), range(parts), indexing="ij"), axis=-1).reshape(-1, 2) * kept
        cells = (self.cells_map_px[:, None] + steps).reshape(-1, 2)
        cells = cells[[bool((tissue[r : r + kept, c : c + kept] > 0).any()) for r, c in cells.tolist()]]
        positions = corners_of(cells, self.map_grid, spec)
        return TileGrid(positions, cells, plan_read(pyramid, spec.mpp, spec.size_px), spec, self.map_grid)

    def kept_boxes(self) -> Iterator[tuple[slice, slice]]:
        """Yield rows and columns of the map that each tile's kept part covers."""
        kept = self.spec.kept_cells
        for row, column in self.cells_map_px.tolist():
            yield np.s_[row : row + kept, column : column + kept]


def map_grid_for(pyramid: Pyramid, spec: TileSpec) -> tuple[MapGrid, ReadPlan]:
    """Return the slide map's lattice for a network and the read plan that it follows from."""
    plan = plan_read(pyramid, spec.mpp, spec.size_px)
    fx, fy = plan.tile_px_level0
    return cover(pyramid, (spec.stride_px * fx, spec.stride_px * fy)), plan


def lay_tiles(pyramid: Pyramid, spec: TileSpec, tissue: NDArray[np.floating]) -> TileGrid:
    """Lay tiles so that the kept parts of their score maps meet without gap or overlap wherever there is tissue.

    `tissue` (H, W) is the tissue fraction on the slide map of `map_grid_for`. Tiles start one margin outside
    the scanned bounds, so that every cell of the map is a kept cell of exactly one tile.
    """
    grid, plan = map_grid_for(pyramid, spec)
    if tissue.shape != grid.shape:
        raise ValueError(f"tissue has shape {tissue.shape}, the slide map {grid.shape}")
    cells = (np.argwhere(_by_tile(tissue > 0, spec.kept_cells).any(axis=(1, 3))) * spec.kept_cells).reshape(-1, 2)
    return TileGrid(corners_of(cells, grid, spec), cells, plan, spec, grid)


def corners_of(cells_map_px: NDArray[np.int64], grid: MapGrid, spec: TileSpec) -> NDArray[np.int64]:
    """Return the level-0 corners (N, 2), x before y, of tiles whose kept parts begin at `cells_map_px` (N, 2)."""
    corners = grid.to_level0_px(cells_map_px[:, ::-1].astype(np.float64) - spec.margin_cells)
    return np.floor(corners + 0.5).astype(np.int64)  # round_px, on an array


def tile_means(tiles: TileGrid, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean (N,) of a map (H, W) over the kept cells of every tile; beyond the map counts as zero."""
    kept = tiles.spec.kept_cells
    means = _by_tile(values.astype(np.float64), kept).mean(axis=(1, 3))
    return np.asarray(means[tuple(tiles.cells_map_px.T // kept)])


def _by_tile(values: NDArray[Any], kept_cells: int) -> NDArray[Any]:
    """Return a map (H, W) as (rows, kept, columns, kept) of whole tiles, zero beyond its border."""
    whole = np.pad(values, [(0, -n % kept_cells) for n in values.shape])
    rows, columns = (n // kept_cells for n in whole.shape)
    return whole.reshape(rows, kept_cells, columns, kept_cells)


def tile_lattice(position_level0_px: tuple[float, float], plan: ReadPlan, pyramid: Pyramid) -> MapGrid:
    """Return the lattice of one tile's own pixels, for drawing labels on it."""
    fx, fy = plan.tile_px_level0
    return MapGrid(position_level0_px, (fx, fy), (plan.size_tile_px,) * 2, (fx * pyramid.mpp_x, fy * pyramid.mpp_y))
