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
from histo.phantom.layout import NO_SURFACE_UM, Layout

CLASSES: Final = {CALCIUM: "calcification", BONE: "bone"}
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


def as_geojson(name: str, components: list[Component]) -> dict[str, Any]:
    """Return a QuPath FeatureCollection with one annotation per component and ids that never change."""
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{name}/{number}")),
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in c.outline],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": CLASSES[c.label], "color": _COLOURS[c.label]},
                "measurements": {"area_mm2": round(c.area_mm2, 6)},
            },
        }
        for number, c in enumerate(components)
    ]
    return {"type": "FeatureCollection", "features": features}


def feret_um(outline: Outline, mpp: float) -> float:
    """Return the largest distance between two points of an outline, in µm."""
    hull = np.asarray(to_polygon(outline).convex_hull.boundary.coords) * mpp
    hull = hull[:: max(1, len(hull) // 400)]
    return float(np.hypot(*(hull[:, None] - hull[None, :]).transpose(2, 0, 1)).max())


def depth_um(outline: Outline, layout: Layout) -> float | None:
    """Return how far below the skin surface the outline begins; None where its fragment has no surface."""
    cell_px = layout.frame.factor
    corners = (np.concatenate([np.asarray(ring) for ring in outline]) / cell_px).astype(np.int64)
    rows, columns = (np.clip(corners[:, k], 0, layout.depth.shape[1 - k] - 1) for k in (1, 0))
    depth = float(layout.depth[rows, columns].min())
    return None if depth >= NO_SURFACE_UM else round(max(0.0, depth), 1)


def rows_of(components: list[Component], layout: Layout) -> list[dict[str, Any]]:
    """Return one JSON row per component."""
    return [
        {
            "class": CLASSES[c.label],
            "area_mm2": round(c.area_mm2, 6),
            "feret_mm": round(feret_um(c.outline, layout.frame.mpp) * 1e-3, 4),
            "centroid_level0_px": list(c.centroid_level0_px),
            "depth_um": depth_um(c.outline, layout),
        }
        for c in components
    ]


def write_mask(path: Path, truth: NDArray[np.uint8], mpp: float) -> None:
    """Write the mask as a lossless tiled TIFF whose resolution tags carry µm per cell."""
    per_cm = 1e4 / mpp
    tifffile.imwrite(
        path, truth, compression="zlib", tile=(256, 256), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER"
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with stable bytes."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
