"""Calcium deposits: granular, solid, shattered, globular, plate and pale ones."""

from typing import Final

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window, cells, enlarge, noise, power_of_two, ramp
from histo.phantom.recipe import Lot, new_seed
from histo.phantom.region import Region, Spot, Value, blob, cells_around, centres, find_spot
from histo.phantom.scene import Scene

CALCIUM: Final = 1
FORMS: Final = ("solid", "shattered", "granular", "globular", "plate", "pale")
_SHARES = (0.22, 0.34, 0.16, 0.1, 0.1, 0.08)


def plan_calcium(lot: Lot, layout: Layout, spot: Spot | None = None) -> Region:
    """Draw one deposit of 80 µm to several mm."""
    rng = lot.rng
    form = str(rng.choice(FORMS, p=_SHARES))
    extent = min(layout.frame.size_px) * layout.frame.mpp
    radius = float(np.clip(np.exp(rng.normal(np.log(260), 0.75)), 40, min(1800, 0.24 * extent)))
    spot = spot or find_spot(rng, layout, radius)
    seed = new_seed(rng)
    numbers = _numbers(lot, form)
    if form == "globular":
        window, sdf = _globules(rng, layout, spot)
    elif form == "plate":
        window, sdf = _plate(rng, layout, spot)
    else:
        window, sdf = blob(rng, layout, spot, min(38.0, 0.25 * spot.radius_um), seed)
    numbers["radius_um"] = round(spot.radius_um, 1)
    return Region(f"calcium_{form}", CALCIUM, window, sdf, seed, numbers)


def _numbers(lot: Lot, form: str) -> dict[str, Value]:
    rng = lot.rng
    pale = form == "pale"
    shattered = form == "shattered" or (form in ("plate", "solid", "globular") and rng.random() < 0.3)
    return {
        "form": form,
        "shattered": bool(shattered),
        "h": float(rng.uniform(0.15, 0.4)) if pale else lot.between((0.5, 1.7), (0.35, 2.3)),
        "e": float(rng.uniform(0.15, 0.5)) if pale else lot.between((0.2, 1.3), (0.1, 1.7)),
        "grain": float(rng.uniform(0.4, 1.0)) if form == "granular" else float(rng.uniform(0.03, 0.3)),
        "grain_px": int(rng.choice([2, 4, 8])),
        "mottle": float(rng.uniform(0.02, 0.2)),
        "mottle_um": float(np.exp(rng.uniform(np.log(5), np.log(60)))),
        "ridges": float(rng.uniform(0, 0.5)),
        "edge_um": float(rng.uniform(0.4, 3.5)),
        "ragged_um": float(rng.uniform(1, 7)),
        "rim": float(rng.uniform(0.15, 0.7)) if rng.random() < 0.6 else 0.0,
        "rim_um": float(rng.uniform(8, 40)),
        "rings_um": float(rng.uniform(9, 22)) if rng.random() < 0.25 else 0.0,
        "cracks": float(rng.uniform(0.5, 3.0)) if rng.random() < 0.6 else 0.0,
        "crack_um": float(rng.uniform(60, 220)),
        "stretch": float(rng.uniform(1.0, 2.6)),
        "turn": float(rng.uniform(0, np.pi)),
        "shard_um": float(np.exp(rng.uniform(np.log(28), np.log(130)))),
        "gap_um": float(rng.uniform(0.5, 14)),
        "lost": float(rng.uniform(0.03, 0.4)),
        "crumbs": float(rng.uniform(0.1, 0.7)),
        "blur_um": float(rng.uniform(0.6, 4.0)),
        "between": float(rng.uniform(0, 0.6)) if rng.random() < 0.6 else 0.0,
    }


def _globules(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    frame = layout.frame
    window = cells_around(frame, spot, 1.4 * spot.radius_um)
    y, x = centres(window, frame.cell_um)
    sdf = np.full((window.h, window.w), -1e4, np.float32)
    for _ in range(int(np.clip(spot.radius_um**2 / 1500, 4, 160))):
        away = spot.radius_um * float(np.sqrt(rng.random()))
        aim, r = float(rng.uniform(0, 2 * np.pi)), float(np.exp(rng.uniform(np.log(12), np.log(60))))
        d = np.hypot(x - spot.x_um - away * np.cos(aim), y - spot.y_um - away * np.sin(aim))
        sdf = np.maximum(sdf, r - d)
    room = layout.tissue[window.y : window.y + window.h, window.x : window.x + window.w]
    return window, np.minimum(sdf, room).astype(np.float32)


def _plate(rng: np.random.Generator, layout: Layout, spot: Spot) -> tuple[Window, F32]:
    """A band along the skin surface, several times longer than thick."""
    frame = layout.frame
    long = min(3 * spot.radius_um, 0.4 * min(frame.size_px) * frame.mpp)
    wide = Spot(spot.x_um, spot.y_um, max(long, 150.0))
    window = cells_around(frame, wide, wide.radius_um * 1.1)
    y, x = centres(window, frame.cell_um)
    turn = layout.angle + float(rng.normal(0, 0.15))
    p = np.cos(turn) * (x - wide.x_um) + np.sin(turn) * (y - wide.y_um)
    q = -np.sin(turn) * (x - wide.x_um) + np.cos(turn) * (y - wide.y_um)
    seed = new_seed(rng)
    q = q + 0.12 * wide.radius_um * frame.field_in(seed, window, 400)
    thick = wide.radius_um * float(rng.uniform(0.12, 0.35)) * (1 + 0.4 * frame.field_in(seed + 1, window, 260, 2))
    sdf = np.minimum(thick - np.abs(q), wide.radius_um - np.abs(p))
    room = layout.tissue[window.y : window.y + window.h, window.x : window.x + window.w]
    return window, np.minimum(sdf, room).astype(np.float32)


def paint_calcium(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint the deposit, its rim and its cracks, and label what is at least half opaque."""
    part = region.window(scene.frame).meet(canvas.window)
    if part is None:
        return
    mpp, n = scene.frame.mpp, region.number
    sdf = region.read(region.sdf_um, part, scene.frame)
    if float(sdf.max()) < -4 * n("rim_um") - 20:
        return
    sdf += np.float32(n("ragged_um")) * noise(region.seed + 1, part, power_of_two(12 / mpp), 4)
    if n("rim"):
        halo = np.float32(0.7 * n("rim")) * np.exp(np.minimum(sdf, 0) * np.float32(1 / n("rim_um")))
        tissue = scene.layout.tissue
        halo *= ramp(enlarge(tissue, part, scene.frame.factor), 0, 8) * (sdf > -4 * n("rim_um"))
        canvas.paint(part, halo, 0.1, 0.9, nuclei=1.0)
    soft = max(n("edge_um"), mpp)
    alpha = ramp(sdf, -soft, soft)
    dark = np.ones_like(sdf)
    if region.numbers["shattered"]:
        strands = np.float32(n("between")) * ramp(noise(region.seed + 2, part, power_of_two(6 / mpp), 3), -0.2, 1.2)
        cut = part.within(canvas.window)
        empty = ramp(sdf, -2.0 - soft, 0.0) * (1 - strands)
        canvas.paint(part, empty, 0.0, 0.0, nuclei=0.0)
        canvas.n[cut] *= 1 - empty
        whole, dark = _shards(region, part, mpp)
        alpha = alpha * whole
    elif n("cracks"):
        alpha = alpha * _cracks(region, part, mpp)
    dark *= _interior(region, part, sdf, mpp)
    if region.numbers["form"] == "granular":
        size = power_of_two(n("grain_px") * 0.5 / mpp)
        lumps = noise(region.seed + 3, part, size, 2) + 0.6 * noise(region.seed + 4, part, power_of_two(40 / mpp))
        alpha = alpha * np.clip(0.62 + n("grain") * 0.5 * lumps, 0.1, 1)
        truth = ramp(sdf, -soft, soft) >= 0.5
    else:
        truth = alpha >= 0.5
    canvas.paint(part, alpha, np.float32(n("h")) * dark, np.float32(n("e")) * dark)
    canvas.mark(part, truth, CALCIUM)


def _interior(region: Region, part: Window, sdf: F32, mpp: float) -> F32:
    """Return a factor around 1: grain, mottling and rings."""
    n = region.number
    tone = 1 + np.float32(n("mottle")) * noise(region.seed + 5, part, power_of_two(n("mottle_um") / mpp), 3)
    ridge = np.abs(noise(region.seed + 12, part, power_of_two(5 / mpp), 3))
    tone += np.float32(n("ridges")) * (0.5 - ridge)
    tone += np.float32(n("grain") * 0.5) * noise(region.seed + 6, part, power_of_two(n("grain_px") * 0.5 / mpp))
    if n("rings_um"):
        tone += 0.18 * np.cos(sdf * np.float32(2 * np.pi / n("rings_um")))
    return np.asarray(np.clip(tone, 0.3, 1.8), np.float32)


def _cracks(region: Region, part: Window, mpp: float) -> F32:
    pattern = cells(region.seed + 7, part, region.number("crack_um") / mpp, step=2, warp_px=12 / mpp)
    width = np.float32(region.number("cracks") / mpp)
    fine = noise(region.seed + 8, part, power_of_two(4 / mpp), 2)
    closed = pattern.mark < 0.35
    return np.maximum(ramp(pattern.gap_px + 2 * fine, float(width), float(2 * width) + 2), closed)


def _shards(region: Region, part: Window, mpp: float) -> tuple[F32, F32]:
    """Return the opacity of sharp pieces with gaps between them, and how dark each piece is."""
    n = region.number
    rough = noise(region.seed + 8, part, power_of_two(6 / mpp), 3)
    stretch = (n("stretch"), n("turn"))
    big = cells(region.seed + 9, part, n("shard_um") / mpp, 2, 0.06 * n("shard_um") / mpp, stretch)
    small = cells(region.seed + 10, part, max(9.0, n("shard_um") / 4) / mpp, 2, 1 / mpp, stretch)
    start = 1.4 - 2.4 * n("crumbs")
    crumbled = ramp(noise(region.seed + 11, part, power_of_two(90 / mpp), 2), start, start + 0.5)
    luck = (big.mark * 7.31) % 1
    gap = np.float32(n("gap_um") / mpp) * (0.3 + 1.4 * luck)
    blur = np.float32(n("blur_um") / mpp) * (0.25 + 2 * ((big.mark * 13.7) % 1) ** 3) + 1
    edge = big.gap_px + np.float32(2.2 / mpp) * rough - gap
    whole = np.clip(0.5 + edge / blur, 0, 1)
    whole *= big.mark > n("lost")
    pieces = np.clip(0.5 + (small.gap_px + 2 * rough - 0.35 * gap) / 2.5, 0, 1) * (small.mark > 0.15 + n("lost"))
    whole *= 1 - crumbled * (1 - pieces)
    dark = 0.7 + 0.5 * luck + crumbled * (0.5 * small.mark - 0.35)
    return np.asarray(whole, np.float32), np.asarray(dark, np.float32)
