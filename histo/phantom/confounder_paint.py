"""How each confounder looks: one painter per kind, each returning where its label goes."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.collagen import fibres_in
from histo.phantom.noise import F32, Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import put
from histo.phantom.region import Region
from histo.phantom.scene import Scene


def paint_confounder(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint one confounder and label it, without covering a lesion's label."""
    part = region.window(scene.frame).meet(canvas.window)
    if part is None:
        return
    mpp = scene.frame.mpp
    sdf = region.read(region.sdf_um, part, scene.frame)
    if float(sdf.max()) < -60:
        return
    sdf += 4 * noise(region.seed + 5, part, power_of_two(12 / mpp), 3)
    inside = _PAINTERS[region.name](canvas, region, scene, part, sdf)
    free = canvas.label[part.within(canvas.window)] == 0
    canvas.mark(part, inside & free, region.label)


_Painter = Callable[[Canvas, Region, Scene, Window, F32], np.ndarray]


def _paint_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Crowded nuclei on a pale ground: lymphoid tissue, tumour-like sheets, muscle, keloid, necrosis."""
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -n("edge_um"), n("edge_um"))
    grain = noise(region.seed + 6, part, power_of_two(3 / mpp), 2)
    fine = noise(region.seed + 9, part, power_of_two(n("grain_um") / 2 / mpp))
    tone = 1 + 0.22 * grain + np.float32(n("ground_grain")) * fine
    if region.name in ("keloid", "smooth_muscle") or (region.name == "nuclei_sheet" and n("spindle") < 0.5):
        family = int(n("family"))
        zoom = n("zoom") if region.name == "keloid" else 0.8
        weave = fibres_in(scene.fibres, part, scene.frame.factor, family, zoom)
        tone = 1 + 0.1 * weave[:, :, 0] + 0.13 * weave[:, :, 1] + 0.5 * np.float32(n("ground_grain")) * fine
        slit = ramp(weave[:, :, 2] + 0.2 * grain, 1.8, 2.2)
        alpha = alpha * (1 - 0.97 * slit)
        canvas.paint(part, slit * ramp(sdf, -2, 2), 0.0, 0.0)
    ground = {"keloid": (0.04, 0.75 + 0.5 * n("e")), "smooth_muscle": (0.1, 0.5 + 0.5 * n("e"))}
    h, e = ground.get(region.name, (0.08 + 0.3 * n("h") * n("packing"), 0.2 + 0.6 * n("e")))
    if region.name == "necrosis":
        h, e = 0.1 + 0.4 * n("h"), 0.5 + 0.6 * n("e")
        dust = noise(region.seed + 7, part, power_of_two(1.5 / mpp))
        tone = tone + 0.2 * grain + 0.8 * ramp(dust, 1.2, 2.0) * ramp(grain, -0.5, 1.5)
    tone = np.clip(tone, 0.45, 1.9)
    canvas.paint(part, alpha, np.float32(h) * tone, np.float32(e) * tone)
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    nuclei *= np.maximum(1 + np.float32(n("nuclear_grain")) * fine, 0.2)
    if region.name in ("lymphoid", "nuclei_sheet") and n("strands") > 0:
        # Fibrous strands with few nuclei run through the sheet.
        wave = np.abs(noise(region.seed + 10, part, power_of_two(110 / mpp), 3))
        strand = ramp(wave, 0.16 * n("strands"), 0.05 * n("strands")) * alpha
        canvas.paint(part, 0.8 * strand, 0.05, np.float32(0.4 + 0.6 * n("e")) * tone)
        nuclei *= 1 - 0.85 * strand
    if region.name == "necrosis":
        nuclei *= np.clip(0.6 + 0.5 * noise(region.seed + 8, part, power_of_two(2 / mpp)), 0, 1)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei)
    return np.asarray(sdf > 0)


def _paint_cartilage(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -6, 6)
    homes = cells(region.seed + 9, part, n("spacing_um") * 0.6 / mpp, step=2)
    tone = 1 + 0.12 * noise(region.seed + 6, part, power_of_two(60 / mpp), 3)
    tone += 0.06 * noise(region.seed + 7, part, power_of_two(2 / mpp))
    halo = np.exp(-homes.gap_px * np.float32(mpp / 14))
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    around = np.clip(nuclei * 3, 0, 1)
    import_px = 2 * int(4 / mpp) + 1
    hole = _widen(around, import_px)
    h = np.float32(0.3 + 0.9 * n("h")) * tone * (1.15 - 0.3 * halo) * (1 - 0.75 * hole)
    e = np.float32(0.3 + 0.3 * n("e")) * tone * (1 - 0.7 * hole)
    canvas.paint(part, alpha, h, e)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], 0.9 * nuclei * alpha)
    return np.asarray(alpha >= 0.5)


def _paint_red_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -2, 2)
    blur = noise(region.seed + 6, part, power_of_two(3 / mpp), 2)
    pattern = cells(region.seed + 9, part, 6.5 / mpp, 1 if mpp > 0.4 else 2, 1.2 / mpp)
    disc = ramp(pattern.gap_px + 0.4 * blur, -0.5, 2.4 / mpp)
    crowd = noise(region.seed + 7, part, power_of_two(40 / mpp), 3)
    present = ramp(crowd + 1.6 * (n("packing") - 0.55) + 1.2 * (pattern.mark - 0.4), -0.9, -0.5)
    depth = 0.12 + 0.6 * (1 - n("packing")) + 0.15 * (pattern.mark - 0.5)
    amount = (1 - depth * (1 - disc)) * (0.9 + 0.12 * crowd + 0.06 * blur) * present
    canvas.paint(part, alpha, 0.0, np.asarray((0.8 + 0.7 * n("e")) * amount, np.float32))
    return np.asarray(alpha >= 0.5)


_INKS: Final = ((1.6, 0.5, 1.0), (1.9, 1.1, 0.35), (1.7, 1.7, 1.6), (0.3, 0.9, 1.6))  # green, blue, black, orange


def _paint_ink(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -5, 15)
    clot = noise(region.seed + 6, part, power_of_two(n("clot_um") / mpp), 3)
    alpha = alpha * np.clip(0.6 + n("clot") * clot, 0.03, 1.4)
    if canvas.ink is None:
        canvas.ink = np.zeros((*canvas.h.shape, 3), np.float32)
    colour = np.asarray(_INKS[int(n("hue"))], np.float32) * np.float32(n("dark"))
    canvas.ink[part.within(canvas.window)] += alpha[:, :, None] * colour
    return np.asarray(alpha >= 0.3)


def _paint_precipitate(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    flecks = noise(region.seed + 6, part, power_of_two(6 / mpp), 2)
    rare = noise(region.seed + 7, part, power_of_two(60 / mpp), 2)
    alpha = ramp(sdf, -80, 80) * ramp(flecks + 0.8 * rare, 2.2 - n("packing") * 0.6, 2.6)
    canvas.h[part.within(canvas.window)] += np.float32(0.6 + n("dark")) * alpha
    return np.asarray(alpha >= 0.5)


def _paint_fold(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -2, 4)
    crease = np.exp(-((sdf / 5) ** 2)) * 0.5
    second = 1 + 0.25 * noise(region.seed + 6, part, power_of_two(8 / mpp), 3)
    factor = 1 + alpha * np.float32(0.5 + 0.9 * n("packing")) * second + crease
    cut = part.within(canvas.window)
    for layer in (canvas.h, canvas.e, canvas.n):
        layer[cut] *= factor
    return np.asarray(alpha >= 0.5)


def _paint_bacteria(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    cloud = sdf + 14 * noise(region.seed + 6, part, power_of_two(30 / mpp), 3)
    alpha = ramp(cloud, -5, 5)
    dust = noise(region.seed + 7, part, power_of_two(1.0 / mpp), 1)
    canvas.paint(
        part, alpha * np.clip(0.75 + 0.3 * dust, 0, 1), np.float32(0.8 + 0.6 * n("h")) * (1 + 0.25 * dust), 0.25
    )
    return np.asarray(alpha >= 0.5)


def _paint_shadow_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -3, 3)
    ghosts = cells(region.seed + 9, part, 14 / mpp, step=2)
    border = ramp(ghosts.gap_px, 3.5 / mpp, 0.5)
    clear = ramp(ghosts.gap_px, 6.5 / mpp, 9 / mpp)
    canvas.paint(part, alpha, 0.05, np.float32(0.4 + 0.6 * n("e")) * (0.8 + 0.4 * border) * (1 - 0.7 * clear))
    return np.asarray(alpha >= 0.5)


def _paint_keratin(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    mpp, n = scene.frame.mpp, region.number
    alpha = ramp(sdf, -3, 3)
    wobble = noise(region.seed + 6, part, power_of_two(24 / mpp), 3)
    layers = np.sin(sdf * np.float32(2 * np.pi / 6) + 3 * wobble)
    canvas.paint(part, alpha, 0.04, np.float32(0.4 + 0.6 * n("e")) * np.clip(0.7 + 0.5 * layers, 0, 1.3))
    return np.asarray(alpha >= 0.5)


def _widen(mask: F32, width_px: int) -> F32:
    return np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))), np.float32)


_PAINTERS: Final[dict[str, _Painter]] = {
    **dict.fromkeys(("lymphoid", "nuclei_sheet", "keloid", "smooth_muscle", "necrosis"), _paint_cells),
    "cartilage": _paint_cartilage,
    "red_cells": _paint_red_cells,
    "ink": _paint_ink,
    "precipitate": _paint_precipitate,
    "fold": _paint_fold,
    "bacteria": _paint_bacteria,
    "shadow_cells": _paint_shadow_cells,
    "keratin": _paint_keratin,
}
