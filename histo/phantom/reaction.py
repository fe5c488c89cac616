"""What tissue does around a deposit: giant cells, a band of macrophages, a capsule, shatter lines."""

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.layout import Frame
from histo.phantom.noise import F32, Window, cells, layers, noise, power_of_two, ramp
from histo.phantom.nuclei import Spots, Stamps, choose, join, keep, lattice, look_up, put, stamps_at
from histo.phantom.recipe import Lot
from histo.phantom.region import Region, Value, centres
from histo.phantom.scene import Scene


def reaction_numbers(lot: Lot) -> dict[str, Value]:
    """Draw how the tissue reacts; each part comes or stays away by itself."""
    rng = lot.rng
    return {
        "giants": int(rng.integers(1, 14)) if rng.random() < 0.45 else 0,
        "band_um": float(rng.uniform(20, 110)) if rng.random() < 0.35 else 0.0,
        "band": float(rng.uniform(0.25, 0.9)),
        "capsule_um": float(rng.uniform(15, 120)) if rng.random() < 0.3 else 0.0,
        "capsule_e": lot.between((0.4, 1.1), (0.3, 1.4)),
        "lines_um": float(rng.uniform(25, 140)) if rng.random() < 0.25 else 0.0,
        "lines_reach_um": float(rng.uniform(50, 170)),
        "lines_turn": float(rng.uniform(0, np.pi)),
    }


def giant_cells(
    rng: np.random.Generator, window: Window, sdf: F32, frame: Frame, count: int
) -> tuple[F32, list[Stamps]]:
    """Place giant cells on an outline: their distance map on the grid and their nuclei."""
    y, x = centres(window, frame.cell_um)
    bodies = np.full((window.h, window.w), -1e4, np.float32)
    places = np.flatnonzero((sdf < 0) & (sdf > -25))
    nuclei: list[Stamps] = []
    for _ in range(count if len(places) else 0):
        j, i = np.unravel_index(int(places[rng.integers(len(places))]), sdf.shape)
        cy, cx, b = float(y[j, 0]), float(x[0, i]), float(rng.uniform(13, 30))
        a, turn = b * float(rng.uniform(1, 1.9)), float(rng.uniform(0, np.pi))
        dx, dy = x - cx, y - cy
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        bodies = np.maximum(bodies, (1 - np.sqrt((p / a) ** 2 + (q / b) ** 2)) * b)
        many = int(rng.integers(4, 23))
        ring = bool(rng.random() < 0.25)
        r = (0.72 if ring else 0.75 * np.sqrt(rng.random(many))) * np.ones(many)
        t = rng.uniform(0, 2 * np.pi, many)
        u, v = a * r * np.cos(t), b * r * np.sin(t)
        yy, xx = cy + np.sin(turn) * u + np.cos(turn) * v, cx + np.cos(turn) * u - np.sin(turn) * v
        luck = [rng.random(many).astype(np.float32) for _ in range(4)]
        spots = Spots(yy.astype(np.float32), xx.astype(np.float32), (luck[0], luck[1], luck[2], luck[3]))
        index = choose("round", np.asarray(np.pi * luck[0], np.float32), luck[1])
        nuclei.append(stamps_at(spots, index, 0.55 + 0.4 * luck[2], frame.mpp))
    return bodies.astype(np.float32), nuclei


def plan_reaction(region: Region, frame: Frame, lot: Lot) -> None:
    """Place giant cells and macrophages around a deposit."""
    n, window = region.number, region.cells
    bodies, parts = giant_cells(lot.rng, window, region.sdf_um, frame, int(n("giants")))
    region.maps["giants"] = bodies
    if n("band_um"):
        cell = frame.cell_um
        box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
        spots = lattice(region.seed + 41, box, 11.5)
        away = -look_up(region.sdf_um, spots, frame, (window.y, window.x))
        clumps = look_up(frame.field_in(region.seed + 42, window, 90, 2), spots, frame, (window.y, window.x))
        share = n("band") * np.clip(0.8 + 0.6 * clumps, 0, 1.2)
        spots = keep(spots, (away > 3) & (away < n("band_um")) & (spots.luck[0] < share))
        angle = np.asarray(np.pi * spots.luck[1], np.float32)
        index = np.where(
            spots.luck[3] < 0.6, choose("plump", angle, spots.luck[2]), choose("lymphocyte", angle, spots.luck[2])
        ).astype(np.int32)
        parts.append(stamps_at(spots, index, 0.5 + 0.5 * spots.luck[1], frame.mpp))
    region.stamps["reaction"] = join(parts)


def reaction_reach_um(region: Region) -> float:
    """Return how far outside the deposit the reaction is painted."""
    n = region.number
    giants = 90.0 if n("giants") else 0.0
    lines = n("lines_reach_um") if n("lines_um") else 0.0
    return max(giants, 1.4 * n("band_um") + 15, n("capsule_um") + 25, lines) + 12


def paint_reaction(canvas: Canvas, region: Region, scene: Scene, part: Window, sdf: F32, tissue: F32) -> None:
    """Paint band, capsule, giant cells and shatter lines; the deposit comes on top."""
    mpp, n = scene.frame.mpp, region.number
    grain = noise(region.seed + 43, part, power_of_two(5 / mpp), 2)
    if n("band_um"):
        bodies = cells(region.seed + 50, part, 15 / mpp, 2, 3 / mpp)
        wander = np.clip(noise(region.seed + 51, part, power_of_two(40 / mpp), 2), -1.5, 1.5)
        band = ramp(sdf + 0.25 * np.float32(n("band_um")) * wander, -n("band_um") - 3, -n("band_um") + 3) * (
            0.85 * tissue
        )
        foam = 0.8 + 0.3 * bodies.mark + 0.08 * grain - 0.45 * ramp(bodies.gap_px, 2.0 / mpp, 0) * ramp(wander, -1, 1)
        canvas.paint(part, band, 0.1 * foam, 0.45 * foam, nuclei=0.4)
    if n("capsule_um"):
        width = n("capsule_um")
        slow = noise(region.seed + 46, part, power_of_two(48 / mpp), 3)
        fibres = layers(region.seed + 47, sdf + 5 * slow, 2.6) * ramp(
            noise(region.seed + 48, part, power_of_two(20 / mpp), 2), -1, 1
        )
        shell = ramp(sdf + 4 * grain, -width - 8, -width + 8) * ramp(sdf, 2, -2) * tissue
        canvas.paint(part, shell, 0.05, np.asarray(n("capsule_e") * (0.85 + 0.16 * fibres), np.float32), nuclei=0.5)
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["reaction"], scene.bank)
    if n("giants"):
        giants = region.read(region.maps["giants"], part, scene.frame) + 2 * grain
        body = ramp(giants, -1.5, 1.5) * tissue
        canvas.paint(part, 0.92 * body, 0.12 + 0.03 * grain, 0.55 + 0.1 * grain)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * tissue)
    if n("lines_um"):
        lines = shatter_lines(region.seed, part, mpp, n("lines_um"), n("lines_turn"))
        canvas.paint(part, lines * ramp(sdf, -n("lines_reach_um"), -n("lines_reach_um") / 3), 0.0, 0.02)


def shatter_lines(seed: int, part: Window, mpp: float, period_um: float, turn: float) -> F32:
    """Return thin white, nearly parallel tears a few µm wide, broken here and there."""
    y = np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None] * np.float32(mpp)
    x = np.arange(part.x, part.x + part.w, dtype=np.float32)[None, :] * np.float32(mpp)
    bend = noise(seed + 44, part, power_of_two(120 / mpp), 3)
    across = np.float32(-np.sin(turn)) * x + np.float32(np.cos(turn)) * y + np.float32(0.45 * period_um) * bend
    line = np.abs(layers(seed + 49, across.astype(np.float32), 0.5 * period_um))
    broken = ramp(noise(seed + 45, part, power_of_two(60 / mpp), 2), -0.3, 0.4)
    return np.asarray(ramp(line, 4.0 / period_um, 1.0 / period_um) * broken, np.float32)
