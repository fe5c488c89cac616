"""Lesions as GeoJSON that QuPath opens as annotations and that training reads back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from histo.files import write_text
from histo.outlines import to_polygon
from histo.results import Lesion, SlideResult
from histo.wording import printable

DECIMALS = 2  # QuPath's own precision


def write_lesions(result: SlideResult, path: Path) -> None:
    """Write the lesions as a FeatureCollection, one feature a line.

    Coordinates count from the corner of the scanned bounds, as QuPath shows the slide; the foreign member `histo` says
    so, and by how much that is shifted against level 0.
    """
    offset = result.pyramid.bounds_level0_px[:2] if result.pyramid else (0, 0)
    colours = {c.name: list(c.colour) for c in result.model.classes}
    head = {
        "origin": "openslide_bounds",
        "offset": list(offset),
        "slide_id": printable(result.slide_id),
        "sha256": result.sha256,
        "status": result.status,
        "model": printable(result.model.name),
        "model_digest": result.model.digest,
        "research_use": result.research_use,
    }
    features = [_text(_feature(lesion, result, colours, offset)) for lesion in result.lesions]
    body = "[\n" + ",\n".join(features) + "\n]" if features else "[]"
    write_text(path, f'{{"type":"FeatureCollection",\n"histo":{_text(head)},\n"features":{body}}}\n')


def _feature(
    lesion: Lesion, result: SlideResult, colours: dict[str, list[int]], offset: tuple[int, int]
) -> dict[str, Any]:
    measurements = {
        "area_mm2": lesion.area_mm2,
        "feret_mm": lesion.feret_mm,
        "probability": lesion.probability,
        "prob_mean": lesion.probability_mean,
        "prob_max": lesion.probability_max,
        "contribution": lesion.contribution,
        "edge_mm": lesion.edge_mm,
    }
    return {
        "type": "Feature",
        "id": lesion.lesion_id,
        "geometry": _geometry(lesion, offset),
        "properties": {
            "objectType": "annotation",
            "name": printable(lesion.name),
            # One version of QuPath throws when the colour is missing.
            "classification": {"name": lesion.class_name, "color": colours.get(lesion.class_name, [128, 128, 128])},
            "isLocked": False,
            # QuPath refuses a file with NaN in it.
            "measurements": {k: float(f"{v:.6g}") for k, v in measurements.items() if v is not None and np.isfinite(v)},
            "metadata": {
                "model": printable(result.model.name),
                "model_digest": result.model.digest,
                "lesion_id": lesion.lesion_id,
                "review": "pending",
            },
        },
    }


def _geometry(lesion: Lesion, offset: tuple[int, int]) -> dict[str, Any]:
    """Return the outline less the offset, on a lattice of 0.01 px and valid on it."""

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return xy - offset

    def rounded(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.round(xy, DECIMALS)

    polygon = shapely.transform(to_polygon(lesion.outline), moved)
    # Plain rounding can make rings touch themselves; this keeps the polygon valid while it rounds.
    snapped = shapely.set_precision(shapely.make_valid(polygon), 10.0**-DECIMALS, mode="valid_output")
    parts = [p for p in shapely.get_parts(snapped).tolist() if isinstance(p, shapely.Polygon) and p.area > 0]
    if not parts:
        snapped = shapely.Point(np.asarray(lesion.peak_level0_px) - offset)
    else:
        snapped = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    # The lattice is binary; decimal rounding only takes off the last digits' noise.
    return dict(shapely.geometry.mapping(shapely.transform(snapped, rounded)))


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
