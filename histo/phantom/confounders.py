"""Things that resemble a lesion and are none: planned like lesions, labelled with an id of their own."""

from typing import Final

import numpy as np

from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32, Window
from histo.phantom.nuclei import choose, keep, lattice, look_up, stamps_at
from histo.phantom.recipe import Lot, new_seed
from histo.phantom.region import Region, Value, blob, find_spot

CONFOUNDERS: Final = {
    "lymphoid": 10,
    "nuclei_sheet": 11,
    "cartilage": 12,
    "keloid": 13,
    "smooth_muscle": 14,
    "red_cells": 15,
    "ink": 16,
    "precipitate": 17,
    "fold": 18,
    "bacteria": 19,
    "necrosis": 20,
    "shadow_cells": 21,
    "keratin": 22,
}
SHIFT_ONLY: Final = ("shadow_cells", "keratin")
_SHARES: Final = {"nuclei_sheet": 4.5, "lymphoid": 3.0, "keloid": 1.5, "cartilage": 1.2, "necrosis": 1.2}
_CELLS: Final = {"lymphoid": 7.2, "nuclei_sheet": 9.5, "smooth_muscle": 13.0, "necrosis": 6.5, "keloid": 24.0}


def plan_confounder(lot: Lot, layout: Layout, name: str | None = None) -> Region:
    """Draw one confounder, of any type the domain allows unless `name` says which."""
    rng = lot.rng
    names = [c for c in CONFOUNDERS if lot.domain == "shift" or c not in SHIFT_ONLY]
    share = np.array([_SHARES.get(c, 1.0) for c in names])
    picked = str(rng.choice(names, p=share / share.sum()))
    name = name or picked
    extent = min(layout.frame.size_px) * layout.frame.mpp
    typical = {"lymphoid": 300, "bacteria": 90, "red_cells": 200, "precipitate": 300, "fold": 600, "ink": 500}
    radius = float(np.exp(rng.normal(np.log(typical.get(name, 480)), 0.5)))
    spot = find_spot(rng, layout, float(np.clip(radius, 40, 0.25 * extent)))
    seed = new_seed(rng)
    numbers = _numbers(rng)
    window, sdf = blob(rng, layout, spot, 0.2 * spot.radius_um, seed)
    if name in ("ink", "fold", "precipitate"):
        window, sdf = _overlay(rng, layout, name, seed)
    region = Region(name, CONFOUNDERS[name], window, sdf, seed, numbers)
    if name in _CELLS:
        _populate(region, layout.frame)
    if name == "cartilage":
        _chondrocytes(region, layout.frame)
    return region


def _numbers(rng: np.random.Generator) -> dict[str, Value]:
    return {
        "h": float(rng.uniform(0.2, 1.0)),
        "e": float(rng.uniform(0.3, 0.9)),
        "dark": float(rng.uniform(0.6, 1.6)),
        "packing": float(rng.uniform(0.55, 1.0)),
        "spindle": float(rng.random()),
        "zoom": float(rng.uniform(1.8, 4.0)),
        "edge_um": float(np.exp(rng.uniform(np.log(1.5), np.log(40)))),
        "grain_um": float(rng.uniform(0.8, 3.0)),
        "hue": int(rng.integers(0, 4)),
        "spacing_um": float(rng.uniform(80, 130)),
        "ground_grain": float(rng.uniform(0.05, 0.45)),
        "nuclear_grain": float(rng.uniform(0.0, 0.4)),
        "spread": float(rng.uniform(0.85, 1.35)),
        "mix": float(rng.uniform(-0.3, 0.6)),
        "strands": float(rng.uniform(-0.5, 1.0)),
        "clumps": float(rng.uniform(0.1, 0.7)),
        "clot_um": float(rng.choice([8, 30, 120])),
        "clot": float(rng.uniform(0.05, 0.35)),
        "family": int(rng.integers(0, 2)),
    }


def _overlay(rng: np.random.Generator, layout: Layout, name: str, seed: int) -> tuple[Window, F32]:
    """Things on top of the section that may lie on glass: bands, strokes, painted margins, specks."""
    frame = layout.frame
    whole = Window(0, 0, *frame.shape)
    if name == "ink" and rng.random() < 0.7:
        width = float(rng.uniform(8, 45))
        patchy = 40 * frame.field(seed + 1, 600) + 15 * frame.field(seed + 2, 64, 2)
        return whole, (width - np.abs(layout.tissue) + np.minimum(patchy, 30)).astype(np.float32)
    spot = find_spot(rng, layout, 200)
    y = (np.arange(frame.shape[0], dtype=np.float32)[:, None] + 0.5) * frame.cell_um
    x = (np.arange(frame.shape[1], dtype=np.float32)[None, :] + 0.5) * frame.cell_um
    turn = float(rng.uniform(0, np.pi))
    q = -np.sin(turn) * (x - spot.x_um) + np.cos(turn) * (y - spot.y_um)
    if name == "precipitate":
        reach = float(rng.uniform(100, 500))
        return whole, (reach - np.hypot(x - spot.x_um, y - spot.y_um)).astype(np.float32)
    q += 60 * frame.field(seed + 1, 520)
    half = float(rng.uniform(15, 90)) if name == "fold" else float(rng.uniform(120, 500))
    sdf = half - np.abs(q) + 0.3 * half * frame.field(seed + 2, 260, 2)
    if name == "fold":
        length = float(rng.uniform(300, 1500))
        p = np.cos(turn) * (x - spot.x_um) + np.sin(turn) * (y - spot.y_um)
        sdf = np.minimum(sdf, np.minimum(length - np.abs(p), layout.tissue))
    return whole, sdf.astype(np.float32)


def _populate(region: Region, frame: Frame) -> None:
    cell, window, n = frame.cell_um, region.cells, region.number
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    spots = lattice(region.seed + 1, box, _CELLS[region.name] * n("spread"))
    inside = look_up(region.sdf_um, spots, frame, (window.y, window.x))
    clumps = look_up(frame.field_in(region.seed + 2, window, 64, 2), spots, frame, (window.y, window.x))
    packed = n("packing") * np.clip(1 + n("clumps") * clumps, 0.05, 1.2)
    fade = np.clip(0.5 + inside / (2 * n("edge_um")), 0, 1)
    spots = keep(spots, spots.luck[0] < packed * fade)
    swirl = look_up(frame.field_in(region.seed + 3, window, 250, 2), spots, frame, (window.y, window.x))
    angle = (1.3 * swirl + 0.5 * (spots.luck[1] - 0.5)).astype(np.float32)
    shape = {"lymphoid": "lymphocyte", "necrosis": "lymphocyte", "keloid": "fibroblast"}.get(region.name)
    if region.name == "nuclei_sheet":
        shape = ("spindle", "plump", "lymphocyte", "epithelial")[int(n("spindle") * 4)]
    if region.name in ("keloid", "smooth_muscle"):
        shape = shape or "spindle"
    if shape in ("lymphocyte", "plump", "epithelial"):
        angle = np.asarray(np.pi * spots.luck[1], np.float32)
    index = choose(shape or "plump", angle, spots.luck[2])
    if region.name in ("lymphoid", "nuclei_sheet"):  # no tissue has one kind of cell only
        other = choose(("plump", "lymphocyte")[int(shape == "plump")], angle, spots.luck[2])
        index = np.where(spots.luck[1] < n("mix"), other, index).astype(np.int32)
    strength = n("dark") * (0.45 + 0.5 * spots.luck[3])
    if region.name == "necrosis":  # dust of broken nuclei
        strength = strength * (spots.luck[1] < 0.6)
    region.stamps["nuclei"] = stamps_at(spots, index, np.minimum(strength, 1.4), frame.mpp)


def _chondrocytes(region: Region, frame: Frame) -> None:
    cell, window = frame.cell_um, region.cells
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    spots = lattice(region.seed + 1, box, region.number("spacing_um") * 0.45)
    spots = keep(spots, (look_up(region.sdf_um, spots, frame, (window.y, window.x)) > 8) & (spots.luck[0] < 0.8))
    index = choose("plump", np.asarray(np.pi * spots.luck[1], np.float32), spots.luck[2])
    region.stamps["nuclei"] = stamps_at(spots, index, 0.6 + 0.6 * spots.luck[3], frame.mpp)
