"""Outlines of deposits: globules, plates, milia, nodules, granules in the epidermis, psammoma, vessel walls."""

import numpy as np

from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window
from histo.phantom.recipe import new_seed
from histo.phantom.region import Spot, cells_around, centres

AROUND_UM = 190.0  # reactions reach this far outside a deposit


def _inside(layout: Layout, window: Window, sdf: F32) -> tuple[Window, F32]:
    room = layout.tissue[window.y : window.y + window.h, window.x : window.x + window.w]
    return window, np.minimum(sdf, room).astype(np.float32)


def _balls(
    rng: np.random.Generator, layout: Layout, spot: Spot, count: int, sizes_um: tuple[float, float], reach: float
) -> tuple[Window, F32]:
    frame = layout.frame
    window = cells_around(frame, spot, reach * spot.radius_um + sizes_um[1] + AROUND_UM)
    y, x = centres(window, frame.cell_um)
    sdf = np.full((window.h, window.w), -1e4, np.float32)
    for _ in range(count):
        away = spot.radius_um * float(np.sqrt(rng.random())) * reach
        aim, r = float(rng.uniform(0, 2 * np.pi)), float(np.exp(rng.uniform(*np.log(sizes_um))))
        d = np.hypot(x - spot.x_um - away * np.cos(aim), y - spot.y_um - away * np.sin(aim))
        sdf = np.maximum(sdf, r - d)
    return _inside(layout, window, sdf)


def globules(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """Many round bodies that touch and fuse."""
    return _balls(rng, layout, spot, int(np.clip(spot.radius_um**2 / 1500, 4, 160)), (12, 60), 1.0)


def milia(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """One to six round smooth nodules that lie apart."""
    largest = float(np.clip(0.7 * spot.radius_um, 60, 400))
    return _balls(rng, layout, spot, int(rng.integers(1, 7)), (40, largest), 1.3)


def nodule(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """One ellipse, a quarter longer than wide, which no chance takes apart: a deposit whose size can be set."""
    window = cells_around(layout.frame, spot, 1.3 * spot.radius_um + AROUND_UM)
    y, x = centres(window, layout.frame.cell_um)
    turn, dx, dy = float(rng.uniform(0, np.pi)), x - spot.x_um, y - spot.y_um
    p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
    sdf = (1 - np.hypot(p / (1.25 * spot.radius_um), q / spot.radius_um)) * spot.radius_um
    return _inside(layout, window, sdf.astype(np.float32))


def transepidermal(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """Granules and a few milia on their way out through a thick epidermis, at the thick place nearest to the spot."""
    thick = np.minimum(layout.epidermis, layout.tissue)  # on glass above the skin the epidermis' distance goes on
    if float(thick.max()) > 0:
        places = np.argwhere(thick > 0.6 * float(np.percentile(thick[thick > 0], 98)))
        cell = layout.frame.cell_um
        away = np.hypot((places[:, 0] + 0.5) * cell - spot.y_um, (places[:, 1] + 0.5) * cell - spot.x_um)
        j, i = places[int(np.argmin(away))]
        spot = Spot((float(i) + 0.5) * cell, (float(j) + 0.5) * cell, min(spot.radius_um, 300.0))
    count = int(np.clip(spot.radius_um**2 / 900, 6, 70))
    return _balls(rng, layout, spot, count, (7, float(np.clip(0.3 * spot.radius_um, 14, 70))), 0.9)


def psammoma(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """Scattered small bodies, each with rings."""
    return _balls(rng, layout, spot, int(np.clip(spot.radius_um**2 / 4000, 6, 60)), (14, 48), 1.0)


def vessel_wall(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """Rings, whole or broken, in the walls of one to four vessels."""
    frame = layout.frame
    window = cells_around(frame, spot, 1.3 * spot.radius_um + 350 + AROUND_UM)
    y, x = centres(window, frame.cell_um)
    sdf = np.full((window.h, window.w), -1e4, np.float32)
    for k in range(int(rng.integers(1, 5))):
        away, aim = (0.0 if k == 0 else spot.radius_um * float(rng.uniform(0.5, 1.2))), float(rng.uniform(0, 6.28))
        b = float(np.clip(np.exp(rng.uniform(np.log(25), np.log(160))), 25, 0.8 * spot.radius_um + 25))
        a, turn = b * float(rng.uniform(1, 1.8)), float(rng.uniform(0, np.pi))
        dx, dy = x - spot.x_um - away * np.cos(aim), y - spot.y_um - away * np.sin(aim)
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        ring = (np.sqrt((p / a) ** 2 + (q / b) ** 2) - 1) * b
        around = np.cos(np.arctan2(q, p) - float(rng.uniform(0, 6.28)))
        thick = b * float(rng.uniform(0.15, 0.35)) * np.clip(0.8 + float(rng.uniform(0, 0.9)) * around, 0, 1.5)
        sdf = np.maximum(sdf, thick - np.abs(ring))
    return _inside(layout, window, sdf)


def plate(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """A band along the skin surface, several times longer than thick."""
    frame = layout.frame
    long = min(3 * spot.radius_um, 0.4 * min(frame.size_px) * frame.mpp)
    wide = Spot(spot.x_um, spot.y_um, max(long, 150.0))
    window = cells_around(frame, wide, wide.radius_um * 1.1 + AROUND_UM)
    y, x = centres(window, frame.cell_um)
    turn = layout.angle + float(rng.normal(0, 0.15))
    p = np.cos(turn) * (x - wide.x_um) + np.sin(turn) * (y - wide.y_um)
    q = -np.sin(turn) * (x - wide.x_um) + np.cos(turn) * (y - wide.y_um)
    seed = new_seed(rng)
    q = q + 0.12 * wide.radius_um * frame.field_in(seed, window, 400)
    thick = wide.radius_um * float(rng.uniform(0.12, 0.35)) * (1 + 0.4 * frame.field_in(seed + 1, window, 260, 2))
    return _inside(layout, window, np.minimum(thick - np.abs(q), wide.radius_um - np.abs(p)))
