"""What does not belong to the tissue: ink, tattoo pigment, suture, stain precipitate; and folds of the section."""

from collections.abc import Callable
from typing import Final

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.noise import F32, Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import put
from histo.phantom.region import Region
from histo.phantom.scene import Scene

_Painter = Callable[[Canvas, Region, Scene, Window, F32], np.ndarray]
# Optical density of felt pens in red, green and blue.
INK_OD: Final = {"green": (1.6, 0.5, 1.0), "blue": (1.9, 1.1, 0.35), "black": (1.7, 1.7, 1.6), "red": (0.25, 1.5, 1.4)}


def _stain(canvas: Canvas, part: Window, amount: F32, colour: tuple[float, float, float], dark: float) -> None:
    """Add optical density of a colour of its own."""
    if canvas.ink is None:
        canvas.ink = np.zeros((*canvas.h.shape, 3), np.float32)
    canvas.ink[part.within(canvas.window)] += amount[:, :, None] * (np.asarray(colour, np.float32) * np.float32(dark))


def paint_ink(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Margin ink or a pen stroke."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -5, 15)
    clot = noise(region.seed + 6, part, power_of_two(n("clot_um") / mpp), 3)
    alpha = alpha * np.clip(0.6 + n("clot") * clot, 0.03, 1.4)
    _stain(canvas, part, alpha, list(INK_OD.values())[int(n("hue"))], n("dark"))
    return np.asarray(alpha >= 0.3)


def paint_tattoo(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Pigment grains in clumps between the bundles and in macrophages; the label covers what is black."""
    mpp, n = scene.frame.mpp, region.number
    clumps = noise(region.seed + 6, part, power_of_two(14 / mpp), 2)
    slow = noise(region.seed + 7, part, power_of_two(90 / mpp), 2)
    grains = noise(region.seed + 8, part, power_of_two(1.2 / mpp), 2)
    field = clumps + 0.5 * grains + 0.5 * slow
    level = 1.7 - 0.8 * n("packing")
    alpha = ramp(sdf, -30, 30) * ramp(field, level, level + 0.3)
    colour = (1.5, 1.5, 1.45) if n("hue") < 3 else (1.7, 1.2, 0.6)
    _stain(canvas, part, alpha, colour, n("dark"))
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * ramp(sdf, 0, 30) * ramp(slow, 0, 0.8))
    return np.asarray(alpha >= 0.5)


def paint_suture(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Cut filaments with dark rims in a space walled by macrophages."""
    mpp, n = scene.frame.mpp, region.number
    wall = ramp(sdf, -26, -4)
    rough = noise(region.seed + 6, part, power_of_two(4 / mpp), 2)
    canvas.paint(part, 0.8 * wall, 0.12 + 0.04 * rough, 0.5 + 0.12 * rough)
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * wall)
    space = ramp(sdf, -1.5, 1.5)
    canvas.paint(part, space, 0.0, 0.02)
    threads = cells(region.seed + 9, part, (13 + 8 * n("pick")) / mpp, 1 if mpp > 0.4 else 2)
    there = threads.mark < n("packing")
    body = ramp(threads.gap_px, 2.0 / mpp, 3.5 / mpp) * there * space
    rim = body * ramp(threads.gap_px, 6.5 / mpp, 3.5 / mpp)
    _stain(canvas, part, body * 0.12 + rim * 0.45, (1.0, 0.95, 0.8), 0.6 + 0.5 * n("dark"))
    return np.asarray(sdf >= 0)


def paint_precipitate(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Dark specks of haematoxylin on tissue and glass."""
    mpp, n = scene.frame.mpp, region.number
    flecks = noise(region.seed + 6, part, power_of_two(6 / mpp), 2)
    rare = noise(region.seed + 7, part, power_of_two(60 / mpp), 2)
    alpha = ramp(sdf, -80, 80) * ramp(flecks + 0.8 * rare, 2.2 - n("packing") * 0.6, 2.6)
    canvas.h[part.within(canvas.window)] += np.float32(0.6 + n("dark")) * alpha
    return np.asarray(alpha >= 0.5)


def paint_fold(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """A doubled strip of the section."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -2, 4)
    crease = np.exp(-((sdf / 5) ** 2)) * 0.5
    second = 1 + 0.25 * noise(region.seed + 6, part, power_of_two(8 / mpp), 3)
    factor = 1 + alpha * np.float32(0.5 + 0.9 * n("packing")) * second + crease
    cut = part.within(canvas.window)
    for layer in (canvas.h, canvas.e, canvas.n):
        layer[cut] *= factor
    return np.asarray(alpha >= 0.5)


FOREIGN: Final[dict[str, _Painter]] = {
    "ink": paint_ink,
    "tattoo": paint_tattoo,
    "suture": paint_suture,
    "precipitate": paint_precipitate,
    "fold": paint_fold,
}
