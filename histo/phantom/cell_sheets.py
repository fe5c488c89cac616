"""Sheets of cells: lymphoid, tumour-like, basaloid nests, necrosis and crushed nuclei, from sparse to packed.

Density, size, darkness and sharpness are drawn independently, so that no one of them tells a sheet of nuclei
from granular calcium: what tells is that the dots are rounded, of one size, and have an inside.
"""

from typing import Final

import cv2
import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.colours import nuclear_share
from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32, Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import choose, join, keep, lattice, look_up, put, stamps_at
from histo.phantom.recipe import Lot
from histo.phantom.region import Region, Spot, cells_around, centres
from histo.phantom.scene import Scene

SHEETS: Final = ("lymphoid", "nuclei_sheet", "basaloid", "necrosis", "crush")
_SPACING_UM: Final = {"lymphoid": 7.0, "nuclei_sheet": 9.5, "basaloid": 8.0, "necrosis": 6.5, "crush": 8.5}
_NUCLEUS_UM2: Final = {
    "lymphocyte": 30,
    "round": 45,
    "plump": 70,
    "vesicular": 90,
    "epithelial": 45,
    "basaloid": 38,
    "spindle": 58,
    "dust": 5,
    "pyknotic": 22,
    "small": 17,
    "thin": 25,
    "oval": 24,
}
_KINDS: Final = {
    "lymphoid": ("lymphocyte", "small", "pyknotic", "oval", "small"),
    "nuclei_sheet": (
        "spindle",
        "plump",
        "vesicular",
        "round",
        "oval",
        "thin",
        "small",
        "oval",
        "thin",
        "oval",
        "small",
    ),
    "basaloid": ("basaloid", "oval", "small"),
    "necrosis": ("dust", "pyknotic", "dust"),
    "crush": ("spindle", "pyknotic"),
}


def plan_nests(rng: np.random.Generator, layout: Layout, spot: Spot, seed: int) -> tuple[Window, F32]:
    """Draw rounded nests and cords that lie apart or touch."""
    frame = layout.frame
    window = cells_around(frame, spot, spot.radius_um + 340)
    y, x = centres(window, frame.cell_um)
    sdf = np.full((window.h, window.w), -1e4, np.float32)
    for _ in range(int(np.clip(spot.radius_um**2 / 5000, 3, 50))):
        away, aim = spot.radius_um * float(np.sqrt(rng.random())), float(rng.uniform(0, 2 * np.pi))
        b = float(np.exp(rng.uniform(np.log(18), np.log(120))))
        a, turn = b * float(rng.uniform(1, 2.5)), float(rng.uniform(0, np.pi))
        dx, dy = x - spot.x_um - away * np.cos(aim), y - spot.y_um - away * np.sin(aim)
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        sdf = np.maximum(sdf, (1 - np.sqrt((p / a) ** 2 + (q / b) ** 2)) * b)
    sdf += 6 * frame.field_in(seed, window, 40, 2)
    room = layout.tissue[window.y : window.y + window.h, window.x : window.x + window.w]
    return window, np.minimum(sdf, room).astype(np.float32)


def populate(region: Region, frame: Frame, lot: Lot) -> None:
    """Place the sheet's nuclei and settle how ground and nuclei share the drawn colour."""
    cell, window, n = frame.cell_um, region.cells, region.number
    origin = (window.y, window.x)
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    kinds = _KINDS[region.name]
    shape = kinds[int(n("pick") * len(kinds))]
    spacing = _SPACING_UM[region.name] * n("spread") * (1.25 if shape in ("vesicular", "plump", "spindle") else 1)
    spacing *= {"dust": 0.55, "small": 0.68, "thin": 0.72, "oval": 0.78}.get(shape, 1.0)
    spots = lattice(region.seed + 1, box, spacing)
    inside = look_up(region.sdf_um, spots, frame, origin)
    clumps = look_up(frame.field_in(region.seed + 2, window, 64, 2), spots, frame, origin)
    packed = n("packing") * np.clip(1 + n("clumps") * clumps, 0.05, 1.4)
    soft = 3.0 if region.name == "basaloid" else n("edge_um")
    spots = keep(spots, spots.luck[0] < packed * np.clip(0.5 + inside / (2 * soft), 0, 1))
    swirl = look_up(frame.field_in(region.seed + 3, window, 250, 2), spots, frame, origin)
    angle = (1.3 * swirl + 0.5 * (spots.luck[1] - 0.5) + n("turn")).astype(np.float32)
    if shape not in ("spindle", "basaloid", "thin", "oval"):
        angle = np.asarray(np.pi * spots.luck[1], np.float32)
    index = choose(shape, angle, spots.luck[2])
    # No tissue has one kind of cell only.
    other = choose(
        "lymphocyte" if shape in ("plump", "vesicular", "spindle", "thin", "oval") else "plump", angle, spots.luck[2]
    )
    foreign = spots.luck[1] < n("mix") * (
        0.4 if region.name in ("basaloid", "necrosis") or shape in ("small", "thin", "oval") else 1
    )
    index = np.where(foreign, other, index)
    # Here and there lies a large pale cell.
    large = choose("vesicular", angle, spots.luck[2])
    index = np.where((spots.luck[3] * 17) % 1 < n("large"), large, index).astype(np.int32)
    cover = min(0.95, _NUCLEUS_UM2[shape] * n("packing") / spacing**2)
    ground, strength = nuclear_share(lot, n("mean_h"), cover)
    region.numbers.update({"ground_h": ground, "strength": strength, "cover": round(cover, 3), "shape": shape})
    gain = strength * (0.55 + 0.7 * spots.luck[3])
    region.stamps["nuclei"] = join([stamps_at(spots, index, gain.astype(np.float32), frame.mpp)])


def paint_cells(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32) -> np.ndarray:
    """Paint ground, nuclei and what runs between them."""
    mpp, n = scene.frame.mpp, region.number
    grain = noise(region.seed + 6, part, power_of_two(3 / mpp), 2)
    fine = noise(region.seed + 9, part, power_of_two(n("grain_um") / mpp), 2)
    slow = noise(region.seed + 11, part, power_of_two(64 / mpp), 2)
    alpha = ramp(sdf + 4 * grain, -n("edge_um"), n("edge_um"))
    if region.name == "basaloid":  # nests shrink away from their stroma
        gap = ramp(sdf, -7, -3) * ramp(slow, 0.2, 0.8)
        canvas.paint(part, gap, 0.02, 0.03)
        alpha = ramp(sdf, -1.5, 1.5)
    bodies = cells(region.seed + 14, part, _SPACING_UM[region.name] * n("spread") / mpp, 2, 1.5 / mpp)
    tone = 0.88 + 0.25 * bodies.mark + 0.08 * grain + np.float32(0.6 * n("ground_grain")) * fine + 0.08 * slow
    if n("gaps"):  # pale chinks between cells that shrank
        chink = ramp(noise(region.seed + 13, part, power_of_two(6 / mpp), 2), 0.2, 1.4)
        tone -= np.float32(n("gaps")) * chink * ramp(bodies.gap_px, 2.2 / mpp, 0.4 / mpp)
    tone = np.clip(tone, 0.05, 1.9)
    canvas.paint(part, alpha, np.float32(n("ground_h")) * tone, np.float32(n("mean_e")) * tone)
    nuclei = _sharp_or_soft(region, scene, part)
    nuclei *= np.maximum(1 + np.float32(n("nuclear_grain")) * fine, 0.2)
    if region.name == "necrosis":
        dust = noise(region.seed + 7, part, power_of_two(1.5 / mpp))
        nuclei *= np.clip(0.7 + 0.5 * noise(region.seed + 8, part, power_of_two(2 / mpp)), 0, 1.3)
        nuclei += alpha * np.float32(0.5 * n("strength")) * ramp(dust + 0.6 * grain, 1.5, 2.2)
    elif region.name == "crush":
        nuclei = _smeared(region, scene, part, nuclei, alpha)
    if n("strands") > 0.25:  # fibrous strands with few nuclei run through the sheet
        wave = np.abs(noise(region.seed + 10, part, power_of_two(110 / mpp), 3))
        strand = ramp(wave, 0.16 * n("strands"), 0.05 * n("strands")) * alpha
        canvas.paint(part, 0.8 * strand, 0.05, np.float32(0.2 + 0.8 * n("mean_e")) * tone)
        nuclei *= 1 - 0.85 * strand
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei)
    return np.asarray(sdf > 0)


def _sharp_or_soft(region: Region, scene: Scene, part: Window) -> F32:
    """Return the nuclei, blurred where the sheet lies out of the focal plane."""
    sigma = min(3.0, region.number("soft_um") / scene.frame.mpp)
    room = 14 if sigma else 0  # beyond the blur's reach, so that chunks agree
    wide = Window(part.y - room, part.x - room, part.h + 2 * room, part.w + 2 * room)
    nuclei = np.zeros((wide.h, wide.w), np.float32)
    put(nuclei, wide, region.stamps["nuclei"], scene.bank)
    if not sigma:
        return nuclei
    nuclei = np.asarray(cv2.GaussianBlur(nuclei, (0, 0), sigma), np.float32)
    return np.ascontiguousarray(nuclei[room:-room, room:-room])


def _smeared(region: Region, scene: Scene, part: Window, nuclei: F32, alpha: F32) -> F32:
    """Draw nuclei out into threads along one direction, as a forceps does."""
    mpp, n = scene.frame.mpp, region.number
    y = np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None]
    x = np.arange(part.x, part.x + part.w, dtype=np.float32)[None, :]
    c, s = np.float32(np.cos(n("turn"))), np.float32(np.sin(n("turn")))
    bend = noise(region.seed + 12, part, power_of_two(64 / mpp), 2) * np.float32(14 / mpp)
    threads = scene.fibres.texture
    p, q = (c * x + s * y) * np.float32(0.25), -s * x + c * y + bend
    p -= threads.shape[1] * np.floor(p / threads.shape[1])
    q -= threads.shape[0] * np.floor(q / threads.shape[0])
    streak = cv2.remap(threads[:, :, 1], p, q, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    smear = np.float32(0.8 * n("strength")) * ramp(np.asarray(streak, np.float32), 0.1, 1.6) * alpha
    return np.asarray(np.maximum(0.7 * nuclei, smear), np.float32)
