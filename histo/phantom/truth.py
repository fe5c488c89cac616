"""The exact truth beside the pixels: mask, GeoJSON outlines and one row per lesion component."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from histo.geometry import MapGrid
from histo.outlines import Outline, area_px2, to_polygon, trace
from histo.phantom.bone import BONE
from histo.phantom.calcium import CALCIUM
from histo.phantom.kinds import IDS
from histo.phantom.layout import NO_SURFACE_UM, Layout
from histo.phantom.pyramid import level_sizes

CLASSES: Final = {CALCIUM: "calcification", BONE: "bone"}
MEASURED: Final = ("area_mm2", "feret_mm", "depth_um")
_COLOURS: Final = {CALCIUM: [126, 64, 190], BONE: [230, 140, 40]}
_NAMESPACE: Final = uuid.UUID("6f1d5a86-0f0b-5d6a-9c2e-3f3f8f6a7b10")


@dataclass(frozen=True)
class Component:
    """One connected piece of calcium or bone: class name, outline in level-0 px, area and centroid (px)."""

    label: int
    outline: Outline
    area_mm2: float
    centroid_level0_px: tuple[float, float]


def find_components(truth: NDArray[np.uint8], mpp: float, down: int) -> list[Component]:
    """Trace every connected piece of each lesion class in the mask, largest first within a class."""
    grid = MapGrid((0.0, 0.0), (float(down), float(down)), truth.shape, (mpp * down, mpp * down))
    found = []
    for label in CLASSES:
        for outline in _pieces(truth == label, grid):
            centre = to_polygon(outline).centroid
            area_mm2 = area_px2(outline) * mpp * mpp * 1e-6
            found.append(Component(label, outline, area_mm2, (round(centre.x, 1), round(centre.y, 1))))
    return found


def _pieces(inside: NDArray[np.bool_], grid: MapGrid) -> list[Outline]:
    """Trace only the rectangle that holds the class: whole slides are mostly empty."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    y, x = int(rows[0]), int(columns[0])
    part = inside[y : rows[-1] + 1, x : columns[-1] + 1]
    origin = grid.to_level0_px(np.array([[x, y]], float))[0]
    moved = MapGrid((float(origin[0]), float(origin[1])), grid.cell_level0_px, part.shape, grid.cell_um)
    return trace(part, moved)


def as_geojson(name: str, components: list[Component], layout: Layout) -> dict[str, Any]:
    """Return a QuPath FeatureCollection: one annotation per component with its row and an id that never changes."""
    features = [
        {
            "type": "Feature",
            "id": _id(name, number),
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in c.outline],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": CLASSES[c.label], "color": _COLOURS[c.label]},
                "measurements": {k: row[k] for k in MEASURED if row[k] is not None},
            },
        }
        for number, (c, row) in enumerate(zip(components, rows_of(name, components, layout), strict=True))
    ]
    return {"type": "FeatureCollection", "features": features}


def feret_um(outline: Outline, mpp: float) -> float:
    """Return the largest distance between two points of an outline, in µm."""
    hull = np.asarray(to_polygon(outline).convex_hull.boundary.coords) * mpp
    hull = hull[:: max(1, len(hull) // 400)]
    return float(np.hypot(*(hull[:, None] - hull[None, :]).transpose(2, 0, 1)).max())


def widest_um(inside: NDArray[np.bool_], cell_um: float) -> float:
    """Return the largest distance (µm) across what lies inside, with cells of `cell_um`; 0 for nothing."""
    yx = np.argwhere(inside & ~_buried(inside))
    if not len(yx):
        return 0.0
    turns = np.linspace(0, np.pi, 60, endpoint=False)
    across = yx @ np.stack([np.sin(turns), np.cos(turns)])
    return float((np.ptp(across, axis=0).max() + 1) * cell_um)


def _buried(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which cells have all four neighbours inside."""
    padded = np.pad(inside, 1)
    return np.asarray(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def depth_um(outline: Outline, layout: Layout) -> float | None:
    """Return how far below the skin surface the outline begins; None where its fragment has no surface."""
    cell_px = layout.frame.factor
    corners = (np.concatenate([np.asarray(ring) for ring in outline]) / cell_px).astype(np.int64)
    rows, columns = (np.clip(corners[:, k], 0, layout.depth.shape[1 - k] - 1) for k in (1, 0))
    depth = float(layout.depth[rows, columns].min())
    return None if depth >= NO_SURFACE_UM else round(max(0.0, depth), 1)


def _id(name: str, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{name}/{number}"))


def rows_of(name: str, components: list[Component], layout: Layout) -> list[dict[str, Any]]:
    """Return one row per component; `id` is that of its outline in the GeoJSON."""
    return [
        {
            "id": _id(name, number),
            "class": CLASSES[c.label],
            "area_mm2": round(c.area_mm2, 6),
            "feret_mm": round(feret_um(c.outline, layout.frame.mpp) * 1e-3, 4),
            "centroid_level0_px": list(c.centroid_level0_px),
            "depth_um": depth_um(c.outline, layout),
        }
        for number, c in enumerate(components)
    ]


def areas_of(truth: NDArray[np.uint8], cell_um: float) -> dict[str, float]:
    """Return the area in mm² of everything that the mask labels, by name."""
    cells = np.bincount(truth.ravel(), minlength=256)
    return {name: round(float(cells[k]) * cell_um**2 * 1e-6, 6) for name, k in IDS.items() if cells[k]}


def mask_levels(truth: NDArray[np.uint8], size_px: tuple[int, int], down: int) -> list[NDArray[np.uint8]]:
    """Return the mask and its reductions to the slide's coarser levels, of exactly their shapes.

    `size_px` is the slide's (width, height), `down` the level-0 pixels on a side of a mask cell. Labels are never
    averaged: a coarse cell takes the label at its centre.
    """
    levels = [truth]
    for k, (width, height) in enumerate(level_sizes(size_px)):
        step = (1 << k) // down
        if step > 1:
            levels.append(truth[step // 2 :: step, step // 2 :: step][:height, :width])
    return levels


def write_mask(path: Path, levels: list[NDArray[np.uint8]], mpp: float) -> None:
    """Write the mask as a lossless tiled pyramid; resolution tags carry µm per cell, `mpp` in the first level."""
    with tifffile.TiffWriter(path) as writer:
        for k, level in enumerate(levels):
            per_cm = 1e4 / (mpp * 2**k)
            writer.write(
                np.ascontiguousarray(level),
                compression="zlib",
                tile=(256, 256),
                photometric="minisblack",
                subfiletype=int(k > 0),
                metadata=None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with stable bytes."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
