"""The outline of a plate of bone: a band that follows the skin surface, or a fascia where there is no surface."""

import numpy as np

from histo.phantom.layout import NO_SURFACE_UM, Layout
from histo.phantom.noise import F32, Window
from histo.phantom.recipe import new_seed
from histo.phantom.region import Spot, cells_around, centres, true_outside

_THICK_UM = (300.0, 1500.0)


def plate(
    rng: np.random.Generator, layout: Layout, spot: Spot, margin_um: float, around_um: float
) -> tuple[Window, F32]:
    """Draw a plate 0.3 to 1.5 mm thick, thinner where the spot is small, and up to 0.8 of the slide long.

    It keeps the depth below the skin of its middle; without a skin it lies along the specimen, gently bent.
    """
    frame = layout.frame
    long = min(3.0 * spot.radius_um, 0.4 * min(frame.size_px) * frame.mpp)
    half = min(0.5 * float(np.exp(rng.uniform(*np.log(_THICK_UM)))), 0.3 * long)
    turn, seed = layout.angle + float(rng.normal(0, 0.12)), new_seed(rng)
    window = cells_around(frame, spot, 1.1 * long + half + around_um)
    y, x = centres(window, frame.cell_um)
    cut = np.s_[window.y : window.y + window.h, window.x : window.x + window.w]
    j = int(np.clip(spot.y_um / frame.cell_um - window.y, 0, window.h - 1))
    i = int(np.clip(spot.x_um / frame.cell_um - window.x, 0, window.w - 1))
    depth = layout.depth[cut]
    middle = float(depth[j, i])
    if middle < NO_SURFACE_UM:
        turn = layout.angle
        across = np.where(depth < NO_SURFACE_UM, depth - middle, 1e4)
    else:
        across = -np.sin(turn) * (x - spot.x_um) + np.cos(turn) * (y - spot.y_um)
        across = across + 0.08 * long * frame.field_in(seed, window, 700)
    along = np.cos(turn) * (x - spot.x_um) + np.sin(turn) * (y - spot.y_um)
    uneven = np.clip(1 + 0.18 * frame.field_in(seed + 1, window, 260, 2), 0.55, 1.5)
    taper = np.clip(1 - (along / long) ** 2, 0, 1) ** 0.35
    sdf = np.minimum(half * uneven * taper - np.abs(across), long - np.abs(along))
    sdf = np.minimum(sdf, layout.tissue[cut] - margin_um)
    return window, true_outside(sdf.astype(np.float32), frame.cell_um)
