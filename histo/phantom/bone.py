"""Bone: lamellae that follow surfaces or packets, lacunae with osteocytes, canals, marrow, cement lines."""

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np

from histo.phantom.bone_plate import plate
from histo.phantom.colours import pink
from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32, Window, nearest
from histo.phantom.nuclei import Stamps, choose, join, keep, lattice, look_up, stamps_at
from histo.phantom.reaction import giant_cells
from histo.phantom.recipe import Lot, new_seed
from histo.phantom.region import Region, Spot, Value, blob, centres, find_spot

BONE: Final = 2
_SPACE_UM = 60.0  # a wider space is a hole in the bone's outline
TABLE_UM: Final = 0.25
TABLE: Final = 4096
FORMS: Final = {"piece": 0.78, "plate": 0.22}
AROUND_UM: Final = 60.0  # the sleeve reaches this far outside the piece


def plan_bone(lot: Lot, layout: Layout, spot: Spot | None = None, given: Mapping[str, Value] | None = None) -> Region:
    """Draw one piece of bone, rounded or a plate along the surface; `given` numbers stand for drawn ones."""
    rng, frame = lot.rng, layout.frame
    form = str(rng.choice(list(FORMS), p=list(FORMS.values())))
    extent = min(frame.size_px) * frame.mpp
    radius = float(np.clip(np.exp(rng.normal(np.log(520), 0.65)), 90, min(1800, 0.26 * extent)))
    spot = spot or find_spot(rng, layout, radius)
    seed = new_seed(rng)
    numbers = _numbers(lot) | dict(given or {})
    # A detached fragment was not cut with the specimen and may lie across its edge, on glass.
    margin = -1e3 if numbers["detached_um"] else -5.0
    if form == "plate":
        window, outer = plate(rng, layout, spot, margin, AROUND_UM)
    else:
        window, outer = blob(rng, layout, spot, min(45.0, 0.2 * spot.radius_um), seed, margin, AROUND_UM)
    spaces = (float(numbers["marrow_from"]) - frame.field_in(seed + 1, window, 330, 2)) * 130
    canals, wide = _canals(rng, window, outer, frame, float(numbers["canals_mm2"]))
    label = np.minimum(np.minimum(outer, spaces), wide).astype(np.float32)
    solid = np.minimum(label, canals).astype(np.float32)
    deep = cv2.distanceTransform((solid > 0).astype(np.uint8), cv2.DIST_L2, 5) * frame.cell_um
    deep = np.asarray(cv2.GaussianBlur(deep, (0, 0), 10 / frame.cell_um), np.float32)
    phase, cement, lean = _packets(rng, window, deep, frame, seed, float(numbers["straight"]))
    numbers |= {"form": form, "radius_um": round(spot.radius_um, 1)}
    maps = {"label": label, "phase": phase, "cement": cement, "outer": outer}
    region = Region("bone", BONE, window, solid, seed, numbers, maps)
    region.stamps.update(_cells(region, frame, deep, lean))
    if numbers["osteoclasts"]:
        bodies, nuclei = giant_cells(rng, window, solid, frame, int(numbers["osteoclasts"]))
        region.maps["giants"] = bodies
        region.stamps["giants"] = join(nuclei)
    region.maps["table"] = _table(rng, float(numbers["lamella_um"]))
    return region


def _numbers(lot: Lot) -> dict[str, Value]:
    rng = lot.rng
    woven = bool(rng.random() < 0.2)
    h, e = pink(lot)
    return {
        "woven": woven,
        "under_decalcified": h > 0.15,
        "e": e,
        "h": h,
        "drop_out": float(rng.uniform(0.9, 1.6)) if rng.random() < 0.2 else 9.0,
        "front_um": float(rng.uniform(6, 30)) if rng.random() < 0.25 else 0.0,
        "front_h": float(rng.uniform(0.15, 0.6)),
        "osteoclasts": int(rng.integers(1, 7)) if rng.random() < 0.2 else 0,
        "lamella_um": lot.between((4.5, 9), (3.5, 11)),
        "lamella": float(rng.uniform(0.0, 0.03)) if woven else lot.between((0.015, 0.055), (0.008, 0.09)),
        "streaks": float(rng.uniform(0.2, 1.2)),
        "straight": float(rng.uniform(0.3, 1.0)),
        "cement": float(rng.uniform(0.0, 0.4)),
        "mottle": float(rng.uniform(0.02, 0.1)),
        "grain": float(rng.uniform(0.005, 0.03) if rng.random() < 0.7 else rng.uniform(0.03, 0.12)),
        "splits": float(rng.uniform(0.1, 1.4)) if rng.random() < 0.6 else 0.0,
        "lacunae_mm2": float(rng.uniform(300, 800)) if woven else lot.between((170, 350), (110, 450)),
        "empty": float(rng.uniform(0.05, 0.4) if rng.random() < 0.7 else rng.uniform(0.5, 1.0)),
        "canals_mm2": float(np.exp(rng.uniform(np.log(2.0), np.log(18)))),
        "marrow_from": float(rng.uniform(0.55, 1.9)),
        "lining": float(rng.uniform(0.15, 0.9)) if rng.random() < 0.7 else 0.05,
        "fatty": bool(rng.random() < 0.4),
        "osteoid_um": float(rng.uniform(2, 12)) if rng.random() < 0.3 else 0.0,
        "marrow": float(rng.uniform(0.5, 1.6)),
        "cells_mm2": float(np.exp(rng.uniform(np.log(800), np.log(8000)))),
        "fibril": float(rng.uniform(0.01, 0.06)),
        "retraction_um": float(np.exp(rng.uniform(np.log(1.5), np.log(22)))) if rng.random() < 0.6 else 0.0,
        "edge_um": float(rng.uniform(0.4, 1.2)),
        "periosteum_um": float(rng.uniform(5, 30)) if rng.random() < 0.7 else 0.0,
        "detached_um": float(rng.uniform(6, 45)) if rng.random() < 0.15 else 0.0,
        "chatter": float(rng.uniform(0.05, 0.2)) if rng.random() < 0.25 else 0.0,
    }


def _canals(rng: np.random.Generator, window: Window, outer: F32, frame: Frame, per_mm2: float) -> tuple[F32, F32]:
    """Return distances outside all canals and outside the wide ones (µm, negative inside a canal)."""
    y, x = centres(window, frame.cell_um)
    every = np.full((window.h, window.w), 1e4, np.float32)
    wide = every.copy()
    count = int(rng.poisson(per_mm2 * float((outer > 0).sum()) * (frame.cell_um * 1e-3) ** 2))
    for _ in range(min(count, 60)):
        j, i = int(rng.integers(window.h)), int(rng.integers(window.w))
        b = float(rng.uniform(10, 34))
        a, turn = b * float(np.exp(abs(rng.normal(0, 0.6)))), float(rng.uniform(0, np.pi))
        if outer[j, i] < a:
            continue
        dx, dy = x - x[0, i], y - y[j, 0]
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        d = ((np.sqrt((p / a) ** 2 + (q / b) ** 2) - 1) * b).astype(np.float32)
        np.minimum(every, d, out=every)
        if 2 * b > _SPACE_UM:
            np.minimum(wide, d, out=wide)
    return every, wide


def _packets(
    rng: np.random.Generator, window: Window, deep: F32, frame: Frame, seed: int, straight: float
) -> tuple[F32, F32, F32]:
    """Return lamella coordinate (µm), distance to the nearest cement line (µm) and each packet's own angle."""
    y, x = centres(window, frame.cell_um)
    bend = [40 * frame.field_in(seed + k, window, 200, 2) for k in (21, 22, 23)]
    yy, xx = (y + bend[0]).astype(np.float32), (x + bend[1]).astype(np.float32)
    near, second, mark = nearest(seed + 24, yy, xx, float(rng.uniform(180, 800)), rings=2)
    base = float(rng.uniform(0, np.pi))
    angle = base + 0.7 * ((mark * 5.13) % 1 - 0.5)
    flat = -np.sin(angle) * x + np.cos(angle) * y + bend[2]
    phase = np.where(mark < straight, flat, deep + 0.15 * bend[2] + 97 * mark)
    lean = np.where(mark < straight, angle, np.nan)
    return phase.astype(np.float32), (second - near).astype(np.float32), lean.astype(np.float32)


def _table(rng: np.random.Generator, period_um: float) -> F32:
    """Return irregular lamellae along one coordinate, `TABLE` values `TABLE_UM` apart, unit variance."""
    white = np.fft.rfft(rng.standard_normal(TABLE))
    v = np.fft.rfftfreq(TABLE, TABLE_UM) * period_um
    lines = np.fft.irfft(white * np.exp(-((v - 1) ** 2) / (2 * 0.35**2)), TABLE)
    slow = np.fft.irfft(white * np.exp(-((v - 0.25) ** 2) / (2 * 0.1**2)), TABLE)
    mixed = lines / lines.std() + 0.35 * slow / slow.std()
    return np.asarray(mixed / mixed.std(), np.float32)[None, :]


def _cells(region: Region, frame: Frame, deep: F32, lean: F32) -> dict[str, Stamps]:
    """Place lacunae with their osteocytes, and the cells of the marrow."""
    cell, window = frame.cell_um, region.cells
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    origin = (window.y, window.x)
    gy, gx = np.gradient(deep)
    along = np.arctan2(gx, -gy).astype(np.float32)
    along = np.where(np.isnan(lean), along, lean).astype(np.float32)
    spots = lattice(region.seed + 31, box, 1000 / float(np.sqrt(region.number("lacunae_mm2"))))
    spots = keep(spots, (look_up(region.sdf_um, spots, frame, origin) > 4) & (spots.luck[0] < 0.9))
    tilt = look_up(along, spots, frame, origin)
    spread = 3.0 if region.numbers["woven"] else 0.5
    tilt = tilt + np.float32(spread) * (spots.luck[1] - 0.5)
    gaps = stamps_at(spots, choose("lacuna", tilt, spots.luck[2]), 0.55 + 0.45 * spots.luck[3], frame.mpp)
    full = spots.luck[3] > region.number("empty")
    housed = keep(spots, full)
    cells = stamps_at(housed, choose("osteocyte", tilt[full], housed.luck[0]), 0.5 + 0.8 * housed.luck[2], frame.mpp)
    room = lattice(region.seed + 32, box, 9.0)
    inner = look_up(region.maps["outer"], room, frame, origin) > 0
    free = look_up(region.sdf_um, room, frame, origin) < -4 - region.number("retraction_um")
    crowd = region.number("cells_mm2") * 81e-6
    lining = np.abs(look_up(region.sdf_um, room, frame, origin) + 4.5) < 3
    lined = lining & (room.luck[0] < region.number("lining"))
    room = keep(room, inner & (lined | (free & (room.luck[0] < crowd))))
    kinds = np.where(
        room.luck[1] < 0.6,
        choose("lymphocyte", room.luck[2] * 3, room.luck[3]),
        choose("plump", room.luck[2] * 3, room.luck[3]),
    ).astype(np.int32)
    marrow = stamps_at(room, kinds, 0.6 + 0.7 * room.luck[2], frame.mpp)
    return {"lacunae": gaps, "osteocytes": cells, "nuclei": join([marrow])}
