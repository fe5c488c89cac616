"""Between masks and polygons: tracing regions of a lattice, drawing polygons on one, measuring them.

An outline is a polygon in level-0 pixels as GeoJSON has it: the exterior ring, then the holes; every ring
is closed.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray

from histo.geometry import MapGrid

Ring = tuple[tuple[float, float], ...]
Outline = tuple[Ring, ...]


_MOST_RUNS = 20_000  # of cells in a row, whose union takes some seconds


def trace(field: NDArray[np.floating | np.bool_], grid: MapGrid, level: float = 0.5) -> list[Outline]:
    """Return the valid outlines of `field` (H, W) >= `level` on the lattice, in level-0 px, largest first.

    Values sit at cell centres and are interpolated between them; outside the lattice the field is zero.
    """
    padded = np.pad(np.asarray(field, np.float64), 1)
    offset = 0.5 - 1  # cell centres, less the padding
    axes = [np.arange(n) + offset for n in padded.shape]
    contours = contourpy.contour_generator(
        x=axes[1], y=axes[0], z=padded, name="serial", fill_type=contourpy.FillType.OuterOffset
    )
    # Just under the level, so that a cell exactly at it belongs to the region.
    filled = contours.filled(np.nextafter(level, -np.inf), np.inf)
    points, offsets = cast(tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]], filled)
    regions: list[Outline] = []
    for xy_map_px, cuts in zip(points, offsets, strict=True):
        xy = grid.to_level0_px(xy_map_px)
        rings = [xy[a:b] for a, b in itertools.pairwise(cuts)]
        regions += polygons_of(shapely.Polygon(rings[0], [r for r in rings[1:] if len(r) >= 4]))
    return sorted(regions, key=area_px2, reverse=True)


def around(inside: NDArray[np.bool_], grid: MapGrid) -> list[Outline]:
    """Return the outlines of the cells of a mask (H, W), in level-0 px, largest first: every cell counts whole.

    For masks that say of every cell what it is; a field of probabilities is traced between its cells, see `trace`, and
    so is a mask in very many pieces, for which this would take minutes.
    """
    steps = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, lefts = np.nonzero(steps == 1)
    if len(rows) > _MOST_RUNS:
        return trace(inside, grid)
    _, rights = np.nonzero(steps == -1)
    corners = (grid.to_level0_px(np.stack([x, y], axis=1)) for x, y in ((lefts, rows), (rights, rows + 1)))
    (x0, y0), (x1, y1) = (xy.T for xy in corners)
    whole = shapely.simplify(shapely.union_all(shapely.box(x0, y0, x1, y1)), 0)
    return sorted(polygons_of(whole), key=area_px2, reverse=True)


def polygons_of(geometry: shapely.Geometry) -> list[Outline]:
    """Return the valid polygons with area of a shapely geometry, repairing it where needed."""
    if not shapely.is_valid(geometry):
        geometry = shapely.make_valid(geometry)
    parts = shapely.get_parts(geometry).tolist()
    return [_outline(p) for p in parts if isinstance(p, shapely.Polygon) and p.area > 0] + [
        o for p in parts if isinstance(p, shapely.MultiPolygon) for o in polygons_of(p)
    ]


def _outline(polygon: shapely.Polygon) -> Outline:
    rings = [polygon.exterior, *polygon.interiors]
    return tuple(tuple((float(x), float(y)) for x, y in ring.coords) for ring in rings)


def mend(rings: Sequence[Ring]) -> list[Outline]:
    """Return the valid polygons of an exterior ring less its holes, as someone drew them.

    Open rings are closed; of a ring that crosses itself everything is kept that it goes round.
    """
    shell, *holes = (np.asarray(ring, float) for ring in rings)
    polygon = shapely.Polygon(shell, holes)
    if shapely.is_valid(polygon):
        return polygons_of(polygon)
    whole, *cut = (_gone_round(ring) for ring in (shell, *holes))
    return polygons_of(shapely.difference(whole, shapely.union_all(cut)) if cut else whole)


def _gone_round(ring: NDArray[np.float64]) -> shapely.Geometry:
    """Return what a closed or open ring (N, 2) goes round, once or oftener.

    Not the even-odd rule, by which a hand that goes round a lesion twice would leave it out.
    """
    polygon = shapely.Polygon(ring)
    if shapely.is_valid(polygon):
        return polygon
    faces = shapely.get_parts(shapely.polygonize([shapely.node(shapely.LinearRing(ring))])).tolist()
    return shapely.union_all([face for face in faces if _turns(ring, face.representative_point()) != 0])


def _turns(ring: NDArray[np.float64], point: shapely.Point) -> int:
    """Return how often a ring (N, 2) winds round a point that is not on it."""
    x, y = (np.append(ring, ring[:1], axis=0) - (point.x, point.y)).T
    turned = np.diff(np.arctan2(y, x))
    return round(float(((turned + np.pi) % (2 * np.pi) - np.pi).sum()) / (2 * np.pi))


def meet(ring: Ring, other: Ring) -> bool:
    """Tell whether the areas of two rings have anything in common."""
    return bool(shapely.intersects(*(_gone_round(np.asarray(r, float)) for r in (ring, other))))


def box_ring(centre: tuple[float, float], size: tuple[float, float], turn: float = 0.0) -> Ring:
    """Return the closed ring of a rectangle, turned about its centre by radians from x towards y."""
    return _turned(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], float), centre, size, turn)


def ellipse_ring(centre: tuple[float, float], size: tuple[float, float], turn: float = 0.0) -> Ring:
    """Return the closed ring of an ellipse with the given axes, within 0.1 % of its area."""
    angles = np.linspace(0, 2 * np.pi, 129)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    circle[-1] = circle[0]
    return _turned(circle, centre, size, turn)


def _turned(unit: NDArray[np.float64], centre: tuple[float, float], size: tuple[float, float], turn: float) -> Ring:
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    xy = unit * (size[0] / 2, size[1] / 2) @ rotation + centre
    return tuple((float(x), float(y)) for x, y in xy)


def to_polygon(outline: Outline) -> shapely.Polygon:
    """Return the outline as a shapely polygon."""
    shell, *holes = (np.asarray(ring) for ring in outline)  # shapely takes arrays at once, tuples point by point
    return shapely.Polygon(shell, holes)


def area_px2(outline: Outline) -> float:
    """Area inside the exterior and outside the holes, in square level-0 px."""
    return float(to_polygon(outline).area)


def simplify(outline: Outline, tolerance_level0_px: float) -> Outline:
    """Drop corners that change the outline by less than the tolerance; topology is kept."""
    simpler = to_polygon(outline).simplify(tolerance_level0_px, preserve_topology=True)
    return _outline(simpler) if isinstance(simpler, shapely.Polygon) and simpler.is_valid else outline


@dataclass(frozen=True, eq=False)
class Stencil:
    """An outline made ready to be painted many times, in level-0 px.

    `corners` (N, 2) of all rings, `starts` (E,) the corners that an edge goes from, to the next one; `box` is
    [[left, top], [right, bottom]].
    """

    corners: NDArray[np.float64]
    starts: NDArray[np.int64]
    box: NDArray[np.float64]


def stencil(outline: Outline | Stencil) -> Stencil:
    """Return an outline ready to be painted; a stencil is returned as it is."""
    if isinstance(outline, Stencil):
        return outline
    rings = [np.asarray(ring, float) for ring in outline]
    corners = np.concatenate(rings)
    ends = np.cumsum([len(ring) for ring in rings]) - 1
    starts = np.delete(np.arange(len(corners)), ends)
    return Stencil(corners, starts, np.stack([rings[0].min(axis=0), rings[0].max(axis=0)]))


def feret_mm(outline: Outline | Stencil, mpp_x: float, mpp_y: float) -> float:
    """Return the largest Feret diameter: the greatest distance between two points of the outline, in mm."""
    hull = shapely.MultiPoint(stencil(outline).corners).convex_hull
    corners = np.asarray(shapely.get_coordinates(hull)) * (mpp_x, mpp_y)
    return float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max()) * 1e-3


def paint(canvas: NDArray[np.uint8], outlines: Iterable[Outline | Stencil], grid: MapGrid, value: int) -> None:
    """Set the cells of `canvas` (H, W) whose centres lie inside an outline to `value`, holes left alone.

    Library polygon fills also draw the border, which on 16 µm cells adds a quarter to a small deposit.
    """
    limits = canvas.shape[::-1]
    for outline in outlines:
        drawn = stencil(outline)
        corners = grid.to_map_px(drawn.box) - 0.5  # cell centres at whole numbers
        (left, top), (right, bottom) = np.clip(np.ceil(corners), 0, limits).astype(int).tolist()
        if left >= right or top >= bottom:
            continue  # most outlines of a slide lie outside a tile
        box = canvas[top:bottom, left:right]
        xy = grid.to_map_px(drawn.corners) - 0.5 - (left, top)
        box[_inside(xy, drawn.starts, box.shape)] = value


def cells_inside(outline: Outline, grid: MapGrid) -> NDArray[np.int64]:
    """Return the cells (N, 2 as row, column) of the lattice whose centres lie inside an outline.

    An outline without any gets the cell that it begins in, so that a small one is somewhere too.
    """
    xy = grid.to_map_px(np.asarray(outline[0]))
    rows, columns = grid.shape
    left, top = np.clip(np.floor(xy.min(axis=0)), 0, (columns, rows)).astype(int)
    right, bottom = np.clip(np.ceil(xy.max(axis=0)), 0, (columns, rows)).astype(int)
    canvas = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
    if not canvas.size:
        return np.zeros((0, 2), np.int64)
    paint(canvas, [outline], grid.window(int(top), int(left), canvas.shape), 1)
    inside = np.argwhere(canvas) if canvas.any() else np.zeros((1, 2), np.int64)
    return np.asarray(inside + np.array([top, left]), np.int64)


def _inside(xy: NDArray[np.float64], starts: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Even-odd rule: a cell is inside when an odd number of edges cross its row at or left of its centre."""
    rows, columns = shape
    x, y = xy.T
    low, high = np.minimum(y[starts], y[starts + 1]), np.maximum(y[starts], y[starts + 1])
    near = (high > 0) & (low <= rows - 1)
    first = np.clip(np.ceil(low[near]), 0, rows).astype(int)
    count = np.clip(np.ceil(high[near]), 0, rows).astype(int) - first
    edge = np.repeat(starts[near], count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count - first, count)
    at = x[edge] + (row - y[edge]) * (x[edge + 1] - x[edge]) / (y[edge + 1] - y[edge])
    column = np.clip(np.ceil(at), 0, columns).astype(int)
    crossings = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    # Sums of uint8 wrap at 256, which leaves odd odd and even even.
    sums = np.cumsum(crossings.astype(np.uint8).reshape(rows, columns + 1), axis=1, dtype=np.uint8)
    return (sums[:, :-1] & 1).astype(bool)
