"""Plain nerves and muscle: small fascicles and hair muscles that every dermis has, painted without a label."""

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.fibrous import paint_fibres, populate_fibres
from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window, noise, power_of_two, ramp
from histo.phantom.recipe import Lot, Tissue, new_seed
from histo.phantom.region import Region, Spot, Value, cells_around, centres, find_spot, true_outside
from histo.phantom.scene import Scene
from histo.phantom.tube import Tube

PLAIN = 0  # the label of what is normal
_SHEATH_UM = 9.0
_PER_MM2 = {"nerve": 1.6, "smooth_muscle": 0.7}


def plan_strands(lot: Lot, layout: Layout, tissue: Tissue, tubes: list[Tube]) -> list[Region]:
    """Draw the slide's nerves, a muscle beside most follicles, and a few muscle bundles by themselves."""
    rng, frame = lot.rng, layout.frame
    mm2 = float((layout.tissue > 0).mean()) * frame.size_px[0] * frame.size_px[1] * frame.mpp**2 * 1e-6
    strands: list[Region] = []
    for name, density in _PER_MM2.items():
        for _ in range(rng.poisson(density * mm2)):
            half = float(rng.uniform(25, 75) if name == "nerve" else rng.uniform(15, 60))
            spot = find_spot(rng, layout, half)
            turn = layout.angle + float(rng.normal(0, 0.7))
            long = half * float(rng.uniform(1.0, 1.6) if rng.random() < 0.5 else rng.uniform(2.5, 7))
            strands.append(_strand(lot, layout, tissue, name, (spot.y_um, spot.x_um, turn, long, half)))
    for tube in tubes:
        if tube.hair and rng.random() < 0.8:
            strands.append(_hair_muscle(lot, layout, tissue, tube))
    return strands


def _hair_muscle(lot: Lot, layout: Layout, tissue: Tissue, tube: Tube) -> Region:
    """Draw the muscle that rises aslant from a follicle towards the surface."""
    rng = lot.rng
    half, long = float(rng.uniform(14, 45)), float(rng.uniform(130, 320))
    side = float(rng.choice([-1, 1]))
    turn = layout.angle + side * (np.pi / 2 + float(rng.uniform(0.4, 0.9)))
    away = tube.b_um + half + 0.55 * long
    y, x = tube.y_um + away * np.sin(turn), tube.x_um + away * np.cos(turn)
    return _strand(lot, layout, tissue, "smooth_muscle", (float(y), float(x), turn, long, half))


def _strand(
    lot: Lot, layout: Layout, tissue: Tissue, name: str, form: tuple[float, float, float, float, float]
) -> Region:
    """Draw one wavy strand from its centre (y, x in µm), direction, half length and half width (µm)."""
    rng, frame = lot.rng, layout.frame
    y_um, x_um, turn, long, half = form
    seed = new_seed(rng)
    window = cells_around(frame, Spot(x_um, y_um, long), 1.3 * long + half + 40)
    y, x = centres(window, frame.cell_um)
    p = np.cos(turn) * (x - x_um) + np.sin(turn) * (y - y_um)
    q = -np.sin(turn) * (x - x_um) + np.cos(turn) * (y - y_um)
    if long > 2 * half:  # cut along, it winds
        q = q + 0.5 * half * np.sin(p / half * float(rng.uniform(0.7, 1.5)) + float(rng.uniform(0, 6.28)))
    q = q + 0.25 * half * frame.field_in(seed + 1, window, max(30.0, half), 2)
    sdf = (1 - np.sqrt((p / long) ** 2 + (q / half) ** 2)) * half
    cut = np.s_[window.y : window.y + window.h, window.x : window.x + window.w]
    room = np.minimum(layout.tissue[cut], -layout.epidermis[cut] - 10)
    sdf = true_outside(np.minimum(sdf, room).astype(np.float32), frame.cell_um)
    numbers = _numbers(rng, tissue, name, turn)
    region = Region(name, PLAIN, window, sdf, seed, numbers)
    populate_fibres(region, frame, lot)
    region.stamps.pop("holes", None)
    return region


def _numbers(rng: np.random.Generator, tissue: Tissue, name: str, turn: float) -> dict[str, Value]:
    """Draw what the painter of fibres needs; the colour is the slide's own connective tissue's, a little off."""
    return {
        "turn": turn,
        "packing": float(rng.uniform(0.6, 0.95)),
        "edge_um": float(rng.uniform(1.0, 4.0)),
        "grain_um": float(rng.uniform(0.9, 2.5)),
        "ground_grain": float(rng.uniform(0.03, 0.15)),
        "mean_h": float(rng.uniform(0.05, 0.14)),
        # The painter makes nerves paler by itself.
        "mean_e": tissue.eosin * float(rng.uniform(0.7, 1.0) if name == "nerve" else rng.uniform(0.75, 1.15)),
    }


def paint_strands(canvas: Canvas, scene: Scene) -> None:
    """Paint the strands that reach into the chunk, a nerve with its sheath; nothing is labelled."""
    for strand in scene.strands:
        part = strand.part(scene.frame, canvas.window, 2 * _SHEATH_UM)
        if part is None:
            continue
        sdf = strand.read(strand.sdf_um, part, scene.frame)
        sdf += 1.5 * noise(strand.seed + 5, part, power_of_two(12 / scene.frame.mpp), 2)
        if strand.name == "nerve":
            _paint_sheath(canvas, strand, part, sdf, scene.tissue.eosin)
        paint_fibres(canvas, strand, scene, part, sdf)


def _paint_sheath(canvas: Canvas, strand: Region, part: Window, sdf: F32, eosin: float) -> None:
    """Paint a thin pink perineurium around a fascicle, and a slit where it came off its bed."""
    slit = ramp(sdf, -_SHEATH_UM - 3, -_SHEATH_UM) * ramp(noise(strand.seed + 6, part, 32, 2), -0.5, 0.5)
    canvas.paint(part, 0.6 * slit, 0.0, 0.05)
    canvas.paint(part, ramp(sdf, -6, -4), 0.08, 0.95 * eosin, nuclei=0.6)
