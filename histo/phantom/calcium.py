"""Calcium deposits: solid, shattered, granular, globular, plate, pale, milia, nodule, in epidermis or vessel wall."""

from typing import Final

import numpy as np

from histo.phantom.calcium_forms import AROUND_UM, globules, milia, nodule, plate, psammoma, transepidermal, vessel_wall
from histo.phantom.canvas import Canvas
from histo.phantom.colours import dark
from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window, cells, enlarge, layers, noise, power_of_two, ramp
from histo.phantom.reaction import paint_reaction, plan_reaction, reaction_numbers, reaction_reach_um
from histo.phantom.recipe import Lot, new_seed
from histo.phantom.region import Region, Spot, Value, blob, find_spot, true_outside
from histo.phantom.scene import Scene

CALCIUM: Final = 1
FORMS: Final = {
    "solid": 0.18,
    "shattered": 0.28,
    "granular": 0.18,
    "globular": 0.1,
    "plate": 0.08,
    "pale": 0.1,
    "milia": 0.08,
    "transepidermal": 0.05,
    "psammoma": 0.05,
    "vessel_wall": 0.06,
    "nodule": 0.0,  # only where it is asked for: what size must a deposit have to be found?
}
SHIFT_ONLY: Final = ("psammoma", "vessel_wall")
_SMOOTH: Final = ("milia", "transepidermal", "psammoma", "vessel_wall", "nodule")
_OUTLINES: Final = {
    "globular": globules,
    "plate": plate,
    "milia": milia,
    "transepidermal": transepidermal,
    "psammoma": psammoma,
    "vessel_wall": vessel_wall,
    "nodule": nodule,
}


def plan_calcium(lot: Lot, layout: Layout, spot: Spot | None = None) -> Region:
    """Draw one deposit of 50 µm to a plate of a centimetre, where the slide has room for it."""
    rng = lot.rng
    forms = [f for f in FORMS if lot.domain != "train" or f not in SHIFT_ONLY]
    share = np.array([FORMS[f] for f in forms])
    form = str(rng.choice(forms, p=share / share.sum()))
    extent = min(layout.frame.size_px) * layout.frame.mpp
    radius = float(np.clip(np.exp(rng.normal(np.log(260), 0.75)), 25, min(1800, 0.24 * extent)))
    spot = spot or find_spot(rng, layout, radius)
    seed = new_seed(rng)
    numbers = _numbers(lot, form)
    if form in _OUTLINES:
        window, sdf = _OUTLINES[form](rng, layout, spot)
    else:
        window, sdf = blob(rng, layout, spot, min(38.0, 0.25 * spot.radius_um), seed, around_um=AROUND_UM)
    sdf = true_outside(sdf, layout.frame.cell_um)
    numbers["radius_um"] = round(spot.radius_um, 1)
    region = Region(f"calcium_{form}", CALCIUM, window, sdf, seed, numbers)
    plan_reaction(region, layout.frame, lot)
    return region


def _numbers(lot: Lot, form: str) -> dict[str, Value]:
    rng = lot.rng
    shattered = form == "shattered" or (form in ("plate", "solid", "globular", "milia") and rng.random() < 0.3)
    h, e = dark(lot)
    if shattered:  # what shatters is hard and takes much stain
        h = max(h, lot.between((0.7, 1.3), (0.5, 1.7)))
    if form == "pale":
        h, e = lot.between((0.12, 0.4), (0.08, 0.5)), lot.between((0.1, 0.5), (0.08, 0.6))
    return reaction_numbers(lot) | {
        "form": form,
        "shattered": bool(shattered),
        "h": h,
        "e": e,
        "cover": float(rng.uniform(0.1, 0.85)),
        "haze": float(rng.uniform(0.0, 0.3)),
        "drop_out": float(rng.uniform(0.9, 1.9)) if rng.random() < 0.3 else 9.0,
        "grain": float(rng.uniform(0.03, 0.3)) * (1.0 if rng.random() < 0.35 else 0.3),
        "grain_px": int(rng.choice([2, 4, 8])),
        "mottle": float(rng.uniform(0.02, 0.2)),
        "mottle_um": float(np.exp(rng.uniform(np.log(5), np.log(60)))),
        "ridges": float(rng.uniform(0, 0.3)) if rng.random() < 0.25 else 0.0,
        "edge_um": float(rng.uniform(0.4, 3.5)),
        "ragged_um": float(rng.uniform(0.2, 1.5)) if form in _SMOOTH else float(rng.uniform(1, 7)),
        "rim": float(rng.uniform(0.15, 0.7)) if rng.random() < 0.6 else 0.0,
        "rim_um": float(rng.uniform(8, 40)),
        "rings_um": float(rng.uniform(5, 22)) if rng.random() < (0.9 if form == "psammoma" else 0.25) else 0.0,
        "cracks": float(rng.uniform(0.5, 3.0)) if rng.random() < 0.6 else 0.0,
        "crack_um": float(rng.uniform(60, 220)),
        "stretch": float(rng.uniform(1.0, 2.6)),
        "turn": float(rng.uniform(0, np.pi)),
        "shard_um": float(np.exp(rng.uniform(np.log(28), np.log(130)))),
        "gap_um": float(rng.uniform(2.0, 14)),
        "lost": float(rng.uniform(0.03, 0.4)),
        "crumbs": float(rng.uniform(0.1, 0.7)),
        "blur_um": float(rng.uniform(0.6, 4.0)),
        "streaks": float(rng.uniform(0.05, 0.35)),
        "dust": float(rng.uniform(0.2, 1.0)) if rng.random() < 0.6 else 0.0,
        "halo_um": float(rng.uniform(1.0, 5.0)) if rng.random() < 0.3 else 0.0,
        "between": float(rng.uniform(0, 0.8)) if rng.random() < 0.6 else 0.0,
    }


def paint_calcium(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint the deposit, its rim and its cracks, and label what is at least half opaque."""
    mpp, n = scene.frame.mpp, region.number
    part = region.part(
        scene.frame, canvas.window, min(AROUND_UM, max(75.0, 4 * n("rim_um"), reaction_reach_um(region)))
    )
    if part is None:
        return
    sdf = region.read(region.sdf_um, part, scene.frame)
    sdf += np.float32(n("ragged_um")) * noise(region.seed + 1, part, power_of_two(12 / mpp), 4)
    if n("rim"):
        halo = np.float32(0.7 * n("rim")) * np.exp(np.minimum(sdf, 0) * np.float32(1 / n("rim_um")))
        tissue = scene.layout.tissue
        halo *= ramp(enlarge(tissue, part, scene.frame.factor), 0, 8) * (sdf > -4 * n("rim_um"))
        canvas.paint(part, halo, 0.1, 0.9, nuclei=1.0)
    specimen = ramp(enlarge(scene.layout.tissue, part, scene.frame.factor), -2, 2)
    paint_reaction(canvas, region, scene, part, sdf, specimen)
    soft = max(n("edge_um"), mpp)
    alpha = ramp(sdf, -soft, soft)
    tone = np.ones_like(sdf)
    if region.numbers["shattered"]:
        _paint_glass(canvas, region, part, sdf, specimen, soft, mpp)
        whole, tone = _shards(region, part, mpp)
        alpha = alpha * whole
    elif n("cracks"):
        alpha = alpha * _cracks(region, part, mpp)
    tone *= _interior(region, part, sdf, mpp)
    if n("halo_um") and not region.numbers["shattered"]:  # a refractile deposit shrinks away from its bed
        ring = ramp(sdf, -n("halo_um") - soft, -n("halo_um")) * ramp(
            noise(region.seed + 17, part, power_of_two(40 / mpp), 2), -0.6, 0.4
        )
        canvas.paint(part, ring * specimen, 0.0, 0.0, nuclei=0.2)
    if n("drop_out") < 9:  # pieces fell out of the section
        torn = noise(region.seed + 13, part, power_of_two(90 / mpp), 3)
        lost = ramp(torn, n("drop_out"), n("drop_out") + 0.06) * ramp(sdf, -1, 3)
        canvas.paint(part, lost, 0.0, 0.0)
        alpha = alpha * (1 - lost)
    if region.numbers["form"] == "granular":
        truth = alpha >= 0.5
        alpha = alpha * _granules(region, part, sdf, mpp)
    else:
        truth = alpha >= 0.5
    canvas.paint(part, alpha, np.float32(n("h")) * tone, np.float32(n("e")) * tone)
    canvas.mark(part, truth, CALCIUM)


def _paint_glass(
    canvas: Canvas, region: Region, part: Window, sdf: F32, specimen: F32, soft: float, mpp: float
) -> None:
    """Empty the bed of a shattered deposit but for threads, and strew splinters on the glass."""
    n = region.number
    web = 1 - np.abs(noise(region.seed + 2, part, power_of_two(14 / mpp), 4))
    strands = np.float32(n("between")) * ramp(web, 0.55, 1.0)
    cut = part.within(canvas.window)
    empty = ramp(sdf, -2.0 - soft, 0.0) * (1 - strands)
    canvas.paint(part, empty, 0.0, 0.0, nuclei=0.0)
    canvas.n[cut] *= 1 - empty
    if n("dust"):
        splinters = noise(region.seed + 15, part, power_of_two(4 / mpp), 3)
        splinters += noise(region.seed + 16, part, power_of_two(48 / mpp), 2)
        specks = ramp(splinters, 3.1 - n("dust"), 3.4 - n("dust")) * ramp(sdf, -60, 10) * specimen
        canvas.paint(part, specks, 0.8 * n("h"), 0.8 * n("e"))


def _granules(region: Region, part: Window, sdf: F32, mpp: float) -> F32:
    """Return the opacity of angular grains of 1 to 5 µm that fuse into lumps: unlike nuclei, of no one size."""
    n = region.number
    fine = noise(region.seed + 3, part, power_of_two(n("grain_px") * 0.35 / mpp), 2)
    middle = noise(region.seed + 14, part, power_of_two(4 / mpp), 2)
    clumps = noise(region.seed + 4, part, power_of_two(32 / mpp), 3)
    core = np.minimum(sdf * np.float32(1 / 60), 1.0)
    level = 1.7 - 2.6 * n("cover") - 0.75 * clumps - 0.5 * core
    grains = ramp(0.8 * fine + 0.8 * middle - level, -0.18, 0.3)
    return np.asarray(np.maximum(grains, np.float32(n("haze"))), np.float32)


def _interior(region: Region, part: Window, sdf: F32, mpp: float) -> F32:
    """Return a factor around 1: grain, mottling and rings."""
    n = region.number
    tone = 1 + np.float32(n("mottle")) * noise(region.seed + 5, part, power_of_two(n("mottle_um") / mpp), 3)
    ridge = np.abs(noise(region.seed + 12, part, power_of_two(5 / mpp), 3))
    tone += np.float32(n("ridges")) * (0.5 - ridge)
    tone += np.float32(n("grain") * 0.5) * noise(region.seed + 6, part, power_of_two(n("grain_px") * 0.5 / mpp))
    if n("rings_um"):
        wobble = noise(region.seed + 19, part, power_of_two(32 / mpp), 3)
        tone += np.float32(0.13) * layers(
            region.seed + 20, sdf + np.float32(0.3 * n("rings_um")) * wobble, 0.5 * n("rings_um")
        )
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
    # Every shard is streaked in a direction of its own, and ragged where it broke.
    turn = np.float32(np.pi) * ((big.mark * 29.3) % 1)
    y = np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None] * np.float32(mpp)
    x = np.arange(part.x, part.x + part.w, dtype=np.float32)[None, :] * np.float32(mpp)
    streaks = layers(region.seed + 18, np.cos(turn) * y - np.sin(turn) * x + 0.9 * rough, 4.5)
    dark = 0.7 + 0.5 * luck + crumbled * (0.5 * small.mark - 0.35)
    dark += np.float32(n("streaks")) * (0.6 * streaks * ramp(rough, -1.5, 1.5) - 0.4 * np.abs(rough))
    return np.asarray(whole, np.float32), np.asarray(dark, np.float32)
