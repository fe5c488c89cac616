"""Things that resemble a lesion and are none: planned like lesions, labelled with an id of their own."""

from typing import Final

import numpy as np

from histo.phantom.cell_sheets import SHEETS, plan_nests, populate
from histo.phantom.colours import dark, pink
from histo.phantom.fibrous import FIBROUS, populate_fibres
from histo.phantom.layout import NO_SURFACE_UM, Frame, Layout
from histo.phantom.noise import F32, Window
from histo.phantom.nuclei import choose, keep, lattice, look_up, stamps_at
from histo.phantom.recipe import Lot, new_seed
from histo.phantom.region import Region, Spot, Value, blob, find_spot, true_outside

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
    "basaloid": 23,
    "elastosis": 24,
    "mucin": 25,
    "tattoo": 26,
    "skeletal_muscle": 27,
    "tendon": 28,
    "tophus": 29,
    "amyloid": 30,
    "fibrin": 31,
    "suture": 32,
    "retraction": 33,
    "scar": 34,
    "nerve": 35,
    "crush": 36,
}
SHIFT_ONLY: Final = ("shadow_cells", "keratin", "skeletal_muscle", "tophus", "crush")
_SHARES: Final = {
    "nuclei_sheet": 5.0,
    "lymphoid": 3.5,
    "basaloid": 2.0,
    "keloid": 1.8,
    "cartilage": 1.8,
    "necrosis": 1.8,
    "tendon": 1.4,
    "retraction": 1.8,
    "bacteria": 1.4,
    "crush": 1.4,
    "amyloid": 1.3,
    "red_cells": 0.7,
    "mucin": 0.6,
    "nerve": 0.6,
    "suture": 0.35,
    "tattoo": 0.5,
}
_DARK: Final = (*SHEETS, "cartilage", "bacteria")
_OVERLAYS: Final = ("ink", "fold", "precipitate")
_TYPICAL_UM: Final = {
    "lymphoid": 320,
    "bacteria": 130,
    "red_cells": 200,
    "tattoo": 250,
    "suture": 90,
    "nerve": 110,
    "mucin": 300,
    "fibrin": 250,
}


def plan_confounder(lot: Lot, layout: Layout, name: str | None = None) -> Region:
    """Draw one confounder, of any type the domain allows unless `name` says which."""
    rng = lot.rng
    names = [c for c in CONFOUNDERS if lot.domain != "train" or c not in SHIFT_ONLY]
    share = np.array([_SHARES.get(c, 1.0) for c in names])
    picked = str(rng.choice(names, p=share / share.sum()))
    name = name or picked
    area_um2 = float((layout.tissue > 0).sum()) * layout.frame.cell_um**2
    radius = float(np.exp(rng.normal(np.log(_TYPICAL_UM.get(name, 480)), 0.5)))
    # A confounder takes at most about an eighth of the specimen.
    spot = find_spot(rng, layout, float(np.clip(radius, 40, 0.25 * np.sqrt(area_um2))))
    if name == "bacteria":
        spot = _on_surface(rng, layout, spot)
    seed = new_seed(rng)
    numbers = _numbers(lot)
    h, e = dark(lot) if name in _DARK else pink(lot)
    numbers |= {"mean_h": h, "mean_e": e}
    if name in _OVERLAYS:
        window, sdf = _overlay(rng, layout, name, seed)
    elif name == "basaloid":
        window, sdf = plan_nests(rng, layout, spot, seed)
    else:
        window, sdf = blob(rng, layout, spot, 0.2 * spot.radius_um, seed, around_um=90)
        # No border is a line: it wanders on the scale of cells and of bundles.
        wander = np.clip(layout.frame.field_in(seed + 4, window, 40, 2), -1.5, 1.5)
        sdf = true_outside(sdf, layout.frame.cell_um) + lot.between((4, 22), (2, 34)) * wander
    sdf = true_outside(sdf.astype(np.float32), layout.frame.cell_um)
    region = Region(name, CONFOUNDERS[name], window, sdf, seed, numbers)
    if name in SHEETS:
        populate(region, layout.frame, lot)
    elif name in FIBROUS:
        populate_fibres(region, layout.frame, lot)
    elif name in _RESIDENTS:
        _residents(region, layout.frame)
    return region


def _on_surface(rng: np.random.Generator, layout: Layout, spot: Spot) -> Spot:
    """Move a spot to the specimen's surface: colonies grow on an ulcer, where the epidermis is lost."""
    places = np.argwhere((layout.tissue > 0) & (layout.tissue < 40) & (layout.depth < NO_SURFACE_UM))
    if not len(places):
        return spot
    j, i = places[int(rng.integers(len(places)))]
    cell = layout.frame.cell_um
    return Spot((float(i) + 0.5) * cell, (float(j) + 0.5) * cell, spot.radius_um)


def _numbers(lot: Lot) -> dict[str, Value]:
    rng = lot.rng
    return {
        "dark": float(rng.uniform(0.6, 1.6)),
        "packing": lot.between((0.55, 0.97), (0.4, 1.0)),
        "pick": float(rng.random()),
        "edge_um": float(np.exp(rng.uniform(np.log(1.5), np.log(40)))),
        "grain_um": float(rng.uniform(0.9, 3.0)),
        "hue": int(rng.integers(0, 4)),
        "spacing_um": float(rng.uniform(60, 130)),
        "ground_grain": lot.between((0.06, 0.4), (0.03, 0.5)) * (1.0 if rng.random() < 0.35 else 0.25),
        "nuclear_grain": float(rng.uniform(0.0, 0.4)),
        "spread": lot.between((0.72, 1.25), (0.62, 1.5)),
        "mix": float(rng.uniform(-0.3, 0.6)),
        "strands": float(rng.uniform(-0.5, 1.0)),
        "clumps": float(np.exp(rng.uniform(np.log(0.03), np.log(0.6)))),
        "clot_um": float(rng.choice([8, 30, 120])),
        "clot": float(rng.uniform(0.05, 0.35)),
        "turn": float(rng.uniform(0, np.pi)),
        "soft_um": float(rng.uniform(0.5, 1.5)) if rng.random() < 0.2 else 0.0,
        "gaps": float(rng.uniform(0.2, 1.0)) if rng.random() < 0.7 else 0.0,
        "large": float(rng.uniform(0.0, 0.08)),
        "holes_um": float(np.exp(rng.uniform(np.log(8), np.log(30)))),
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


# Spacing in µm (None: as drawn), share of places taken, shape: the few cells in matrices and pools.
_RESIDENTS: Final[dict[str, tuple[float | None, float, str]]] = {
    "cartilage": (None, 0.8, "plump"),
    "mucin": (45, 0.6, "fibroblast"),
    "amyloid": (40, 0.5, "fibroblast"),
    "fibrin": (22, 0.5, "pyknotic"),
    "tophus": (60, 0.4, "plump"),
    "tattoo": (24, 0.7, "plump"),
    "suture": (12, 0.7, "plump"),
}


def _residents(region: Region, frame: Frame) -> None:
    cell, window = frame.cell_um, region.cells
    spacing, share, shape = _RESIDENTS[region.name]
    box = (window.y * cell, window.x * cell, window.h * cell, window.w * cell)
    spots = lattice(region.seed + 1, box, spacing or region.number("spacing_um") * 0.45)
    inside = look_up(region.sdf_um, spots, frame, (window.y, window.x))
    spots = keep(spots, (inside > 4) & (spots.luck[0] < share))
    index = choose(shape, np.asarray(np.pi * spots.luck[1], np.float32), spots.luck[2])
    region.stamps["nuclei"] = stamps_at(spots, index, 0.5 + 0.6 * spots.luck[3], frame.mpp)
