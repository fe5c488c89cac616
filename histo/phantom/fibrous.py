"""Fibrous look-alikes of bone: keloid, scar, tendon, muscle, nerve, elastosis, hyalinised collagen with holes."""

from typing import Final, NamedTuple

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.collagen import read_fibres
from histo.phantom.layout import Frame
from histo.phantom.noise import F32, Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import Stamps, choose, keep, lattice, look_up, put, stamps_at
from histo.phantom.recipe import Lot
from histo.phantom.region import Region
from histo.phantom.scene import Scene


class Weave(NamedTuple):
    """Ranges of fibre width (zoom), bending (µm), streak contrast, slit level; nuclei: shape, spacing, share."""

    zoom: tuple[float, float]
    bend_um: tuple[float, float]
    streak: tuple[float, float]
    slit: tuple[float, float]
    shape: str
    spacing_um: float
    share: float


FIBROUS: Final = {
    "keloid": Weave((1.8, 4.0), (10, 70), (0.05, 0.18), (1.6, 2.4), "fibroblast", 24, 0.6),
    "scar": Weave((0.8, 1.6), (5, 30), (0.1, 0.25), (2.0, 2.8), "fibroblast", 17, 0.7),
    "tendon": Weave((0.6, 1.8), (2, 16), (0.06, 0.22), (1.9, 3.2), "fibroblast", 22, 0.6),
    "smooth_muscle": Weave((0.7, 1.2), (8, 40), (0.08, 0.22), (1.8, 2.6), "spindle", 13, 0.8),
    "skeletal_muscle": Weave((2.0, 4.0), (4, 25), (0.04, 0.12), (2.2, 3.2), "fibroblast", 19, 0.5),
    "nerve": Weave((0.5, 0.9), (10, 30), (0.15, 0.35), (1.9, 2.6), "fibroblast", 12, 0.6),
    "elastosis": Weave((0.4, 0.8), (30, 90), (0.2, 0.4), (2.0, 2.8), "fibroblast", 34, 0.6),
    "retraction": Weave((1.2, 5.0), (5, 60), (0.02, 0.14), (2.4, 4.0), "fibroblast", 32, 0.5),
}


def populate_fibres(region: Region, frame: Frame, lot: Lot) -> None:
    """Draw the weave's own numbers and place nuclei, and small slit-like holes in hyalinised collagen."""
    style = FIBROUS[region.name]
    rng, cell, window = lot.rng, frame.cell_um, region.cells
    turn = region.number("turn")
    region.numbers.update(
        {
            "zoom": float(rng.uniform(*style.zoom)),
            "bend_um": float(rng.uniform(*style.bend_um)),
            "bend_long_um": float(rng.choice([60, 120, 250])),
            "streak": float(rng.uniform(*style.streak)),
            "slit": float(rng.uniform(*style.slit)),
            "across": bool(rng.random() < 0.4),
            "mottle": lot.between((0.03, 0.14), (0.01, 0.2)),
            "holes_mm2": lot.between((60, 260), (30, 380)),
            "haze": float(rng.uniform(0.0, 0.4)),
        }
    )
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    spots = lattice(region.seed + 1, box, style.spacing_um)
    inside = look_up(region.sdf_um, spots, frame, (window.y, window.x))
    spots = keep(spots, (inside > -2) & (spots.luck[0] < style.share * region.number("packing") * 1.2))
    angle = (turn + 0.6 * (spots.luck[1] - 0.5)).astype(np.float32)
    index = choose(style.shape, angle, spots.luck[2])
    region.stamps["nuclei"] = stamps_at(spots, index, 0.45 + 0.6 * spots.luck[3], frame.mpp)
    if region.name in ("retraction", "smooth_muscle", "tendon"):
        region.stamps["holes"] = _holes(region, frame, box, turn)


def _holes(region: Region, frame: Frame, box: tuple[float, float, float, float], turn: float) -> Stamps:
    """Place slits along the fibres: shrunken cells and their spaces, which bone's lacunae resemble."""
    spots = lattice(region.seed + 21, box, 1000 / float(np.sqrt(region.number("holes_mm2"))))
    inside = look_up(region.sdf_um, spots, frame, (region.cells.y, region.cells.x))
    spots = keep(spots, (inside > 5) & (spots.luck[0] < 0.7))
    angle = (turn + 0.9 * (spots.luck[1] - 0.5)).astype(np.float32)
    return stamps_at(spots, choose("lacuna", angle, spots.luck[2]), 0.4 + 0.6 * spots.luck[3], frame.mpp)


def _own_fibres(region: Region, scene: Scene, part: Window) -> F32:
    """Read the slide's fibre textures along the region's own, gently bending direction: (h, w, 3)."""
    mpp, n = scene.frame.mpp, region.number
    y = np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None]
    x = np.arange(part.x, part.x + part.w, dtype=np.float32)[None, :]
    c, s = np.float32(np.cos(n("turn"))), np.float32(np.sin(n("turn")))
    bend = noise(region.seed + 22, part, power_of_two(n("bend_long_um") / mpp), 2) * np.float32(n("bend_um") / mpp)
    scale = np.float32(1 / n("zoom"))
    crimp = 1.5 * noise(region.seed + 23, part, power_of_two(16 / mpp))
    return read_fibres(scene.fibres.texture, (c * x + s * y) * scale, (-s * x + c * y + bend + crimp) * scale)


def paint_fibres(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Paint bundles, slits, holes and nuclei."""
    mpp, n = scene.frame.mpp, region.number
    weave = _own_fibres(region, scene, part)
    fine = noise(region.seed + 9, part, power_of_two(n("grain_um") / 2 / mpp))
    slow = noise(region.seed + 11, part, power_of_two(64 / mpp), 2)
    alpha = ramp(sdf, -n("edge_um"), n("edge_um"))
    tone = 1 + np.float32(n("streak")) * (weave[:, :, 0] + 1.1 * weave[:, :, 1])
    tone += np.float32(0.5 * n("ground_grain")) * fine + np.float32(n("mottle")) * slow
    h, e = np.full_like(tone, n("mean_h")), n("mean_e") * tone
    torn = noise(region.seed + 12, part, power_of_two(8 / mpp), 3)
    gaps = ramp(weave[:, :, 2] + 0.15 * torn, n("slit"), n("slit") + 0.3)
    if region.name == "skeletal_muscle":
        gaps = np.maximum(gaps, _fascicles(region, part, weave, mpp))
    elif region.name == "elastosis":
        curls = 1 - np.abs(noise(region.seed + 24, part, power_of_two(6 / mpp), 2))
        h = h * 0.4 + np.float32(0.35) * np.clip(curls, 0, 1)
        e = e * (0.35 + 0.6 * np.clip(curls, 0, 1.2))
    elif region.name == "nerve":
        e = e * 0.55 + np.float32(0.05)
    if "holes" in region.stamps:
        hole = np.zeros_like(sdf)
        put(hole, part, region.stamps["holes"], scene.bank)
        gaps = np.maximum(gaps, np.clip(hole, 0, 1) * 0.9)
    canvas.paint(part, alpha, h * np.clip(tone, 0.3, 1.8), np.clip(e, 0.02, None))
    canvas.paint(part, alpha * gaps, 0.01, 0.03)
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    cut = part.within(canvas.window)
    room = alpha if region.name != "keloid" else alpha * ramp(weave[:, :, 0], 0.6, -0.4)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * room * (1 - gaps))
    return np.asarray(alpha >= 0.5)


def _fascicles(region: Region, part: Window, weave: F32, mpp: float) -> F32:
    """Return the white between muscle fibres: polygons where cut across, long clefts where cut along."""
    if region.numbers["across"]:
        pattern = cells(region.seed + 25, part, 42 / mpp, 2, 4 / mpp)
        return ramp(pattern.gap_px + weave[:, :, 1], 4.5 / mpp, 1.5 / mpp)
    pattern = cells(region.seed + 25, part, 38 / mpp, 2, 3 / mpp, (9.0, region.number("turn")))
    return ramp(pattern.gap_px + 0.5 * weave[:, :, 1], 3.5 / mpp, 1.0 / mpp)
