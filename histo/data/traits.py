"""Properties of a slide that say nothing of its tissue's disease and could give its label away all the same."""

from pathlib import Path

import numpy as np

from histo.data.scanned import area_mm2
from histo.data.tissue import Tissue
from histo.geometry import Pyramid
from histo.results import Overview


def measure_traits(path: Path, pyramid: Pyramid, overview: Overview, tissue: Tissue) -> dict[str, float]:
    """Measure ink, tissue, colour, size, scale and file of a slide; areas in mm², colours 0 to 255.

    Colours are medians over the tissue without ink, so that a small lesion doesn't move them.
    """
    inside = tissue.mask & ~tissue.excluded
    red, green, blue = np.median(overview.rgb[inside], axis=0) if inside.any() else np.zeros(3)
    glass = np.median(overview.rgb[~tissue.mask], axis=0).mean() if not tissue.mask.all() else 255.0
    _, _, width, height = pyramid.bounds_level0_px
    return {
        "share of ink": float(tissue.excluded.sum() / max(tissue.mask.sum(), 1)),
        "tissue area (mm²)": area_mm2(tissue.mask, overview, pyramid),
        "tissue colour, red": float(red),
        "tissue colour, green": float(green),
        "tissue colour, blue": float(blue),
        "brightness of the glass": float(glass),
        "scanned area (mm²)": width * height * pyramid.pixel_mm2,
        "scale (µm per pixel)": pyramid.mpp_x,
        "levels in the file": float(len(pyramid.downsamples)),
        "bytes per pixel of level 0": path.stat().st_size / (pyramid.size_level0_px[0] * pyramid.size_level0_px[1]),
    }
