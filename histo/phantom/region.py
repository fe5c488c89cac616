"""Regions with an outline of their own: deposits, bone and confounders, as signed distance maps on the grid."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32, Window, enlarge
from histo.phantom.nuclei import Stamps

Value = float | int | str | bool

_THIN = 4  # every fourth grid cell is tried as a place


@dataclass(frozen=True, eq=False)
class Region:
    """One region: what it is, the label it leaves, its grid cells, signed distance (µm), seed, drawn numbers."""

    name: str
    label: int
    cells: Window
    sdf_um: F32
    seed: int
    numbers: dict[str, Value]
    maps: dict[str, F32] = field(default_factory=dict)
    stamps: dict[str, Stamps] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """Return one drawn number."""
        return float(self.numbers[name])

    def window(self, frame: Frame) -> Window:
        """Return the region's rectangle in level-0 px."""
        f = frame.factor
        return Window(self.cells.y * f, self.cells.x * f, self.cells.h * f, self.cells.w * f)

    def part(self, frame: Frame, canvas: Window, around_um: float, grid: F32 | None = None) -> Window | None:
        """Return the rectangle of level-0 px of a canvas that lies inside the outline or within a distance of it.

        `grid` is the distance map that counts, by default the region's own.
        """
        distance, f = self.sdf_um if grid is None else grid, frame.factor
        common = self.window(frame).meet(canvas)
        if common is None:
            return None
        y0, x0 = common.y // f - self.cells.y, common.x // f - self.cells.x
        y1, x1 = -(-(common.y + common.h) // f) - self.cells.y, -(-(common.x + common.w) // f) - self.cells.x
        y0, x0 = max(0, y0 - 1), max(0, x0 - 1)
        near = distance[y0 : y1 + 1, x0 : x1 + 1] > -around_um
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if not len(rows):
            return None
        top, left = (y0 + int(rows[0]) - 1 + self.cells.y) * f, (x0 + int(columns[0]) - 1 + self.cells.x) * f
        bottom, right = (y0 + int(rows[-1]) + 2 + self.cells.y) * f, (x0 + int(columns[-1]) + 2 + self.cells.x) * f
        return Window(top, left, bottom - top, right - left).meet(common)

    def read(self, grid: F32, part: Window, frame: Frame, smooth: bool = True) -> F32:
        """Interpolate one of the region's maps over a rectangle of level-0 px."""
        f = frame.factor
        moved = Window(part.y - self.cells.y * f, part.x - self.cells.x * f, part.h, part.w)
        return enlarge(grid, moved, f, smooth)


@dataclass(frozen=True)
class Spot:
    """A wanted place: centre (x, y) and radius in µm."""

    x_um: float
    y_um: float
    radius_um: float


def find_spot(rng: np.random.Generator, layout: Layout, radius_um: float) -> Spot:
    """Pick a place inside the specimen below the epidermis that has room for the radius, or nearly."""
    cell = layout.frame.cell_um
    room = np.minimum(layout.tissue, -layout.epidermis)[2::_THIN, 2::_THIN]
    best = float(room.max())
    wanted = min(0.6 * radius_um, best - 0.2 * abs(best))
    places = np.flatnonzero(room >= wanted)
    j, i = np.unravel_index(int(places[rng.integers(len(places))]), room.shape)
    radius = min(radius_um, max(60.0, 1.6 * float(room[j, i])))
    return Spot((float(i) * _THIN + 2.5) * cell, (float(j) * _THIN + 2.5) * cell, radius)


def cells_around(frame: Frame, spot: Spot, reach_um: float) -> Window:
    """Return the grid cells within `reach_um` of the spot that lie on the slide."""
    cell = frame.cell_um
    top, left = int((spot.y_um - reach_um) / cell), int((spot.x_um - reach_um) / cell)
    side = int(2 * reach_um / cell) + 2
    whole = Window(0, 0, *frame.shape)
    return Window(top, left, side, side).meet(whole) or Window(0, 0, 1, 1)


def centres(cells: Window, cell_um: float) -> tuple[F32, F32]:
    """Return the y (h, 1) and x (1, w) of the cells' centres in µm."""
    y = (np.arange(cells.y, cells.y + cells.h, dtype=np.float32)[:, None] + 0.5) * cell_um
    x = (np.arange(cells.x, cells.x + cells.w, dtype=np.float32)[None, :] + 0.5) * cell_um
    return y, x


def true_outside(sdf_um: F32, cell_um: float) -> F32:
    """Make distances outside an outline at least the true ones: those of a long ellipse grow too slowly at its ends."""
    away = cv2.distanceTransform((sdf_um <= 0).astype(np.uint8), cv2.DIST_L2, 5)
    away = np.minimum(away, 2500)  # without any inside OpenCV returns the largest float
    return np.minimum(sdf_um, np.minimum(1 - away, 0) * np.float32(cell_um) + np.maximum(sdf_um, 0)).astype(np.float32)


def blob(
    rng: np.random.Generator,
    layout: Layout,
    spot: Spot,
    rough_um: float,
    seed: int,
    margin_um: float = 0.0,
    around_um: float = 0.0,
) -> tuple[Window, F32]:
    """Draw a union of ellipses with a noisy outline, cut off at the specimen's edge less a margin.

    `around_um` is how far outside the outline something will still be painted.
    """
    frame = layout.frame
    cells = cells_around(frame, spot, 1.9 * spot.radius_um + 1.5 * rough_um + around_um)
    y, x = centres(cells, frame.cell_um)
    sdf = np.full((cells.h, cells.w), -1e4, np.float32)
    for k in range(int(rng.integers(1, 5))):
        away = 0.0 if k == 0 else spot.radius_um * float(rng.uniform(0.3, 0.9))
        turn, aim = rng.uniform(0, 2 * np.pi, 2)
        a = spot.radius_um * (1.0 if k == 0 else float(rng.uniform(0.3, 0.7)))
        b = a * float(np.clip(np.exp(rng.normal(-0.3, 0.4)), 0.3, 1.0))
        dx, dy = x - spot.x_um - away * np.cos(aim), y - spot.y_um - away * np.sin(aim)
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        sdf = np.maximum(sdf, (1 - np.sqrt((p / a) ** 2 + (q / b) ** 2)) * b)
    scale = max(24.0, min(140.0, spot.radius_um))
    sdf += rough_um * np.clip(frame.field_in(seed, cells, scale, 3), -1.5, 1.5)
    room = layout.tissue[cells.y : cells.y + cells.h, cells.x : cells.x + cells.w] - margin_um
    return cells, np.minimum(sdf, room).astype(np.float32)
