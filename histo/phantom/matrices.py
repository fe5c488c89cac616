"""Look-alikes that are matrix more than cells: cartilage, mucin, amyloid, fibrin, tophus, keratin and others."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.noise import F32, Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import put
from histo.phantom.region import Region
from histo.phantom.scene import Scene

_Painter = Callable[[Canvas, Region, Scene, Window, F32], np.ndarray]


def _residents(canvas: Canvas, region: Region, scene: Scene, part: Window, room: F32) -> F32:
    """Put the region's few cells where there is room and return them."""
    nuclei = np.zeros((part.h, part.w), np.float32)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * room)
    return nuclei


def _mottle(region: Region, part: Window, mpp: float) -> F32:
    n = region.number
    tone = 1 + 0.12 * noise(region.seed + 6, part, power_of_two(60 / mpp), 3)
    return np.asarray(tone + np.float32(0.5 * n("ground_grain")) * noise(region.seed + 7, part, 2), np.float32)


def paint_cartilage(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Glassy matrix, darker around clear lacunae with one nucleus or two."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -6, 6)
    homes = cells(region.seed + 9, part, n("spacing_um") * 0.6 / mpp, step=2)
    tone = _mottle(region, part, mpp)
    halo = np.exp(-homes.gap_px * np.float32(mpp / 14))
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    side = 2 * int(4 / mpp) + 1
    hole = cv2.dilate(np.clip(nuclei * 3, 0, 1), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    h = np.float32(n("mean_h")) * tone * (1.15 - 0.3 * halo) * (1 - 0.75 * hole)
    e = np.float32(n("mean_e")) * tone * (1 - 0.7 * hole)
    canvas.paint(part, alpha, h, e)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], 0.9 * nuclei * alpha)
    return np.asarray(alpha >= 0.5)


def paint_red_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """A lake of red cells, packed or loose."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -2, 2)
    blur = noise(region.seed + 6, part, power_of_two(3 / mpp), 2)
    pattern = cells(region.seed + 9, part, 6.5 / mpp, 1 if mpp > 0.4 else 2, 1.2 / mpp)
    disc = ramp(pattern.gap_px + 0.4 * blur, -0.5, 2.4 / mpp)
    crowd = noise(region.seed + 7, part, power_of_two(40 / mpp), 3)
    present = ramp(crowd + 1.6 * (n("packing") - 0.55) + 1.2 * (pattern.mark - 0.4), -0.9, -0.5)
    depth = 0.12 + 0.6 * (1 - n("packing")) + 0.15 * (pattern.mark - 0.5)
    amount = (1 - depth * (1 - disc)) * (0.9 + 0.12 * crowd + 0.06 * blur) * present
    canvas.paint(part, alpha, 0.0, np.asarray((0.5 + 0.6 * n("mean_e")) * amount, np.float32))
    return np.asarray(alpha >= 0.5)


def paint_bacteria(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Clouds of fine even dust with soft edges, in a dirty pale bed."""
    mpp, n = scene.frame.mpp, region.number
    bed = ramp(sdf, -12, 12)
    lumps = noise(region.seed + 8, part, power_of_two(6 / mpp), 2)
    canvas.paint(part, 0.7 * bed, 0.1 + 0.05 * lumps, 0.5 + 0.2 * lumps)
    cloud = sdf - 6 + 22 * noise(region.seed + 6, part, power_of_two(40 / mpp), 3)
    alpha = ramp(cloud, -7, 7)
    dust = noise(region.seed + 7, part, power_of_two(1.0 / mpp), 1)
    h = np.float32(n("mean_h")) * (1 + 0.35 * dust)
    canvas.paint(part, alpha * np.clip(0.8 + 0.3 * dust, 0, 1), h, 0.6 * n("mean_e"))
    return np.asarray(alpha >= 0.5)


def paint_shadow_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Ghosts of cells with a clear centre: false lacunae."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -3, 3)
    ghosts = cells(region.seed + 9, part, 14 / mpp, step=2, warp_px=2 / mpp)
    rough = noise(region.seed + 6, part, power_of_two(3 / mpp), 2)
    border = ramp(ghosts.gap_px + rough, 3.5 / mpp, 0.5)
    clear = ramp(ghosts.gap_px + rough, (5 + 3 * n("pick")) / mpp, (8 + 3 * n("pick")) / mpp)
    crack = ramp(noise(region.seed + 10, part, power_of_two(40 / mpp), 3), 1.5, 1.7)
    e = np.float32(n("mean_e")) * (0.8 + 0.3 * border + 0.08 * rough) * (1 - 0.7 * clear) * (1 - crack)
    canvas.paint(part, alpha, np.float32(n("mean_h")) * (1 - crack), e)
    return np.asarray(alpha >= 0.5)


def paint_keratin(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Lamellae of horn without cells, splitting here and there."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -3, 3)
    wobble = noise(region.seed + 6, part, power_of_two(32 / mpp), 3)
    slow = noise(region.seed + 7, part, power_of_two(130 / mpp), 2)
    fine = noise(region.seed + 8, part, power_of_two(2 / mpp), 2)
    layers = np.sin((sdf + 9 * slow) * np.float32(2 * np.pi / (4 + 5 * n("pick"))) + 2.5 * wobble)
    split = ramp(layers + 0.8 * slow + 0.3 * fine, 1.5, 1.9)
    e = np.float32(n("mean_e")) * (0.85 + 0.16 * layers + 0.06 * fine) * (1 - 0.9 * split)
    canvas.paint(part, alpha, np.float32(n("mean_h")) * (1 - split), e)
    return np.asarray(alpha >= 0.5)


def paint_mucin(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """A pale blue pool with a little granular precipitate and stellate cells."""
    mpp, n = scene.frame.mpp, region.number
    alpha = 0.92 * ramp(sdf, -n("edge_um") - 6, n("edge_um") + 6)
    strings = noise(region.seed + 6, part, power_of_two(10 / mpp), 3)
    slow = noise(region.seed + 7, part, power_of_two(130 / mpp), 2)
    h = np.float32(0.08 + 0.25 * n("mean_h")) * (1 + 0.3 * slow) + 0.1 * ramp(strings, 0.6, 2.2)
    canvas.paint(part, alpha, h, 0.05 + 0.07 * ramp(strings, 0.8, 2.4))
    _residents(canvas, region, scene, part, alpha)
    return np.asarray(alpha >= 0.46)


def paint_amyloid(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Glassy clumps with artificial fissures between them."""
    mpp, n = scene.frame.mpp, region.number
    clumps = cells(region.seed + 9, part, n("spacing_um") / mpp, 2, 0.15 * n("spacing_um") / mpp)
    rough = noise(region.seed + 8, part, power_of_two(5 / mpp), 2)
    open_ = np.float32((0.5 + 6 * n("pick")) / mpp) * (0.4 + clumps.mark)
    body = ramp(clumps.gap_px + np.float32(1.2 / mpp) * rough - open_, 0, 2.5)
    body = np.maximum(body, (clumps.mark * 5.7 % 1) < 0.3)
    alpha = ramp(sdf, -3, 3)
    tone = _mottle(region, part, mpp) * (0.9 + 0.2 * clumps.mark)
    canvas.paint(part, alpha * (0.1 + 0.9 * body), np.float32(n("mean_h")) * tone, np.float32(n("mean_e")) * tone)
    canvas.paint(part, alpha * (1 - body) * 0.8, 0.0, 0.02)
    _residents(canvas, region, scene, part, alpha * (1 - body))
    return np.asarray(alpha >= 0.5)


def paint_fibrin(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """A felt of eosinophilic threads with trapped broken cells."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -5, 5)
    felt = 1 - np.abs(noise(region.seed + 6, part, power_of_two(10 / mpp), 3))
    dense = ramp(noise(region.seed + 7, part, power_of_two(90 / mpp), 2), -0.9, 0.6)
    e = np.float32(n("mean_e")) * (0.25 + 0.5 * dense + 0.7 * np.clip(felt, 0, 1) ** 3)
    canvas.paint(part, alpha, np.float32(0.6 * n("mean_h")) * (0.4 + 0.6 * dense), e)
    _residents(canvas, region, scene, part, alpha)
    return np.asarray(alpha >= 0.5)


def paint_tophus(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """A washed-out pale field with sheaves of needle-shaped clefts."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -8, 8)
    bend = noise(region.seed + 8, part, power_of_two(24 / mpp), 3)
    pair = [cells(region.seed + 9 + k, part, 7 / mpp, 2, 2 / mpp, (7.0, n("turn") + 0.9 * k)) for k in (0, 1)]
    patch = noise(region.seed + 10, part, power_of_two(64 / mpp), 2) > 0
    gap, mark = (np.where(patch, pair[0][k], pair[1][k]) for k in (0, 1))
    needles = ramp(gap + 0.5 * bend, 1.6 / mpp, 3.2 / mpp) * (mark < 0.15 + 0.5 * n("packing"))
    tone = _mottle(region, part, mpp)
    e = np.float32(0.15 + 0.35 * n("mean_e")) * tone * (1 - 0.75 * needles)
    canvas.paint(part, alpha, np.float32(0.05 + 0.3 * n("mean_h")) * tone * (1 - 0.75 * needles), e)
    _residents(canvas, region, scene, part, alpha)
    return np.asarray(alpha >= 0.5)


MATRICES: Final[dict[str, _Painter]] = {
    "cartilage": paint_cartilage,
    "red_cells": paint_red_cells,
    "bacteria": paint_bacteria,
    "shadow_cells": paint_shadow_cells,
    "keratin": paint_keratin,
    "mucin": paint_mucin,
    "amyloid": paint_amyloid,
    "fibrin": paint_fibrin,
    "tophus": paint_tophus,
}
