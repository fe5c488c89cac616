"""Glands, follicles, vessels and nerves: rounded cross-sections built from rings."""

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.layout import Layout
from histo.phantom.noise import Window, cells, noise, power_of_two, ramp
from histo.phantom.nuclei import Spots, Stamps, choose, join, put, stamps_at
from histo.phantom.recipe import new_seed
from histo.phantom.region import find_spot
from histo.phantom.scene import Scene
from histo.phantom.tube import Tube


def plan_adnexa(rng: np.random.Generator, layout: Layout) -> tuple[list[Tube], Stamps]:
    """Draw the slide's tubes and the nuclei in their walls."""
    frame = layout.frame
    mm2 = float((layout.tissue > 0).mean()) * frame.size_px[0] * frame.size_px[1] * frame.mpp**2 * 1e-6
    tubes: list[Tube] = []
    for _ in range(rng.poisson(3.0 * mm2)):
        tubes.append(_vessel(rng, layout))
    for _ in range(rng.poisson(0.35 * mm2)):
        tubes += _eccrine(rng, layout)
    for _ in range(rng.poisson(0.2 * mm2)):
        tubes += _follicle(rng, layout)
    if not tubes:
        return [], join([])
    return tubes, join([_wall_nuclei(rng, t, frame.mpp) for t in tubes])


def _vessel(rng: np.random.Generator, layout: Layout) -> Tube:
    b = float(np.exp(rng.uniform(np.log(7), np.log(45))))
    spot = find_spot(rng, layout, b)
    thick = float(rng.uniform(2.5, 0.45 * b + 2.5))
    red = (0.0, float(rng.uniform(0.8, 1.4))) if rng.random() < 0.4 else (0.0, 0.0)
    a = b * float(np.exp(abs(rng.normal(0, 0.5))))
    turn = float(rng.uniform(0, np.pi))
    return Tube(spot.y_um, spot.x_um, a, b, turn, max(1.0, b - thick), (0.12, 0.65), red, False, new_seed(rng))


def _eccrine(rng: np.random.Generator, layout: Layout) -> list[Tube]:
    spot = find_spot(rng, layout, 200)
    tubes = []
    for _ in range(int(rng.integers(5, 16))):
        b = float(rng.uniform(14, 30))
        a, turn = b * float(rng.uniform(1, 2.4)), float(rng.uniform(0, np.pi))
        y, x = spot.y_um + float(rng.normal(0, 85)), spot.x_um + float(rng.normal(0, 85))
        wall = (float(rng.uniform(0.15, 0.35)), float(rng.uniform(0.3, 0.6)))
        lumen = b * float(rng.uniform(0.12, 0.35))
        tubes.append(Tube(y, x, a, b, turn, lumen, wall, (0.0, 0.05), False, new_seed(rng)))
    return tubes


def _follicle(rng: np.random.Generator, layout: Layout) -> list[Tube]:
    spot = find_spot(rng, layout, 150)
    b, turn = float(rng.uniform(45, 110)), float(rng.uniform(0, np.pi))
    a = b * float(rng.uniform(1, 3))
    core = b * float(rng.uniform(0.2, 0.5))
    tubes = [Tube(spot.y_um, spot.x_um, a, b, turn, core, (0.35, 0.55), (0.05, 0.9), False, new_seed(rng))]
    for _ in range(int(rng.integers(0, 5))):
        aim, r = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(45, 110))
        y, x = spot.y_um + (b + 0.8 * r) * np.sin(aim), spot.x_um + (b + 0.8 * r) * np.cos(aim)
        tubes.append(Tube(float(y), float(x), 1.3 * r, r, aim, r - 9, (0.3, 0.5), (0.06, 0.3), True, new_seed(rng)))
    return tubes


def _wall_nuclei(rng: np.random.Generator, tube: Tube, mpp: float) -> Stamps:
    """Set nuclei on rings through the wall, and one per cell in a foamy lobule."""
    rings = np.arange(tube.lumen_um + 2.2, tube.b_um - 1, 6.5)
    if not len(rings):
        rings = np.array([tube.b_um - 1.5])
    y, x, lean = [], [], []
    for r in rings:
        stretch = r * (tube.a_um / tube.b_um)
        count = max(3, int(2 * np.pi * np.sqrt(r * stretch) / (8.5 if tube.wall[0] > 0.13 else 13)))
        t = np.arange(count) * 2 * np.pi / count + rng.uniform(-0.25, 0.25, count) * 4 / count
        # Cells of one ring do not stand in line.
        wide = min(2.4, 0.3 * (tube.b_um - tube.lumen_um))
        off = 1 + (rng.uniform(-wide, wide, count) - tube.bulge_um(t.astype(np.float32))) / max(r, wide + 1)
        off = np.maximum(off, 0.15)
        p, q = stretch * np.cos(t) * off, r * np.sin(t) * off
        y.append(tube.y_um + np.sin(tube.turn) * p + np.cos(tube.turn) * q)
        x.append(tube.x_um + np.cos(tube.turn) * p - np.sin(tube.turn) * q)
        lean.append(np.arctan2(r * np.cos(t), -stretch * np.sin(t)) + tube.turn)
    many = sum(len(v) for v in y)
    luck = [rng.random(many).astype(np.float32) for _ in range(4)]
    spots = Spots(
        np.concatenate(y).astype(np.float32), np.concatenate(x).astype(np.float32), (luck[0], luck[1], luck[2], luck[3])
    )
    kind = "epithelial" if tube.wall[0] > 0.13 else "fibroblast"
    index = choose(kind, np.concatenate(lean).astype(np.float32), luck[0])
    return stamps_at(spots, index, 0.5 + 0.5 * luck[1], mpp)


def paint_adnexa(canvas: Canvas, scene: Scene) -> None:
    """Paint wall and lumen of the tubes that reach into the chunk."""
    mpp = scene.frame.mpp
    for tube in scene.tubes:
        reach = int((tube.a_um + 20) / mpp)
        box = Window(int(tube.y_um / mpp) - reach, int(tube.x_um / mpp) - reach, 2 * reach, 2 * reach)
        part = box.meet(canvas.window)
        if part is None:
            continue
        y = (np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None] + 0.5) * np.float32(mpp) - tube.y_um
        x = (np.arange(part.x, part.x + part.w, dtype=np.float32)[None, :] + 0.5) * np.float32(mpp) - tube.x_um
        c, s = np.float32(np.cos(tube.turn)), np.float32(np.sin(tube.turn))
        p, q = (c * x + s * y) * np.float32(tube.b_um / tube.a_um), c * y - s * x
        grain = noise(tube.seed, part, power_of_two(8 / mpp), 2)
        r = np.sqrt(p * p + q * q).astype(np.float32) + 0.8 * grain + tube.bulge_um(np.arctan2(q, p))
        outer = ramp(r, tube.b_um + 0.8, tube.b_um - 0.8)
        gap = ramp(r, tube.b_um + 5, tube.b_um + 2) * (0.35 + 0.25 * grain) if tube.seed % 3 == 0 else None
        if gap is not None:
            canvas.paint(part, np.clip(gap, 0, 1), 0.0, 0.05, nuclei=1.0)
        canvas.paint(part, outer, tube.wall[0] * (1 + 0.15 * grain), tube.wall[1] * (1 + 0.15 * grain), nuclei=0.0)
        inner = ramp(r, tube.lumen_um + 0.7, tube.lumen_um - 0.7)
        filling = tube.filling[1] * (1 + 0.2 * grain)
        if tube.filling[1] > 0.6 and not tube.foam:  # red cells, packed or with plasma between them
            disc = cells(tube.seed + 3, part, 6.5 / mpp, 2, 1 / mpp)
            filling = tube.filling[1] * (0.25 + 0.75 * ramp(disc.gap_px, -0.5, 2.0 / mpp)) * (0.85 + 0.3 * disc.mark)
        if tube.foam:
            foam = cells(tube.seed + 1, part, 17 / mpp, step=2)
            filling = tube.filling[1] * (0.35 + 0.9 * np.exp(-foam.gap_px * np.float32(mpp / 1.6)) + 0.15 * grain)
        canvas.paint(part, inner, tube.filling[0], filling, nuclei=0.0)
    put(canvas.n, canvas.window, scene.tube_nuclei, scene.bank)
