"""Finding tissue on the overview, tuned for what must not be lost here.

Dense calcium is nearly black, decalcified bone pale cherry, fat almost white: so the rule is optical density
against the glass of this very slide, never a saturation threshold. Pen ink is told by its hue: every H&E dye
absorbs green most, blue and green ink absorb red most.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.glass import glass_of
from histo.results import Overview

TISSUE_OD = 0.09  # green OD above the glass; thin fat walls reach 0.1 at 8 µm/px
CHROMA_OD = 0.06
LEAST_COLOUR_MM2 = 0.02  # the smallest section that is stained has more
SAMPLED = 4  # of every so many rows and columns one is looked at for that
INK_OD = 0.25
INK_RED_OVER_GREEN = 1.12
CLOSE_UM = 30.0  # joins the walls of fat cells and the shards of shattered calcium
FILL_MM2 = 0.05  # lumina, fat vacuoles and retraction clefts belong to the tissue around them
DUST_MM2 = 0.004
INK_MM2 = 0.01
STRIP_PX = 256
BLUR_PX, BLUR_REACH_PX = 0.7, 8  # sigma, and more than OpenCV's kernel of that sigma reaches


@dataclass(frozen=True, eq=False)
class Tissue:
    """Masks (H, W) on the overview's lattice: `mask` all tissue, `excluded` the part of it under ink."""

    mask: NDArray[np.bool_]
    excluded: NDArray[np.bool_]


def find_tissue(overview: Overview, lost: NDArray[np.bool_]) -> Tissue:
    """Find the tissue of an overview; what could not be read (`lost`) counts as tissue, so that it is accounted for."""
    grid = overview.grid
    glass = glass_of(overview)
    stained, inked = _by_colour(overview.rgb, glass, has_colour(overview.rgb, glass, grid.cell_mm2))
    radius = max(1, round(CLOSE_UM / max(grid.cell_um)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    mask = cv2.morphologyEx((stained | inked).astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    mask = ~_without_small(~mask, FILL_MM2 / grid.cell_mm2)
    mask = _without_small(mask, DUST_MM2 / grid.cell_mm2) | lost
    ink = cv2.morphologyEx(inked.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    return Tissue(mask, _without_small(ink, INK_MM2 / grid.cell_mm2) & mask & ~lost)


def has_colour(rgb: NDArray[np.uint8], glass: NDArray[np.float64], cell_mm2: float) -> bool:
    """Tell whether anything is stained: on a slide without colour density alone must tell tissue.

    How much else is dark says nothing: beside a small biopsy shadows and dirt may be most of it.
    """
    od = optical_density(rgb[::SAMPLED, ::SAMPLED], glass)
    chroma = od[..., 1] - np.minimum(od[..., 0], od[..., 2])
    coloured = int(((od[..., 1] > TISSUE_OD) & (chroma > CHROMA_OD)).sum())
    return coloured * SAMPLED**2 * cell_mm2 >= LEAST_COLOUR_MM2


def _by_colour(
    rgb: NDArray[np.uint8], glass: NDArray[np.float64], coloured: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what is stained and what is inked, both (H, W), pixel by pixel; in strips, to bound the memory."""
    rows = len(rgb)
    stained, inked = np.empty(rgb.shape[:2], bool), np.empty(rgb.shape[:2], bool)
    for start in range(0, rows, STRIP_PX):
        end = min(start + STRIP_PX, rows)
        top, bottom = max(start - BLUR_REACH_PX, 0), min(end + BLUR_REACH_PX, rows)
        blurred = cv2.GaussianBlur(optical_density(rgb[top:bottom], glass), (0, 0), BLUR_PX)
        od = np.asarray(blurred[start - top : end - top], np.float32)
        red, green, blue = od[..., 0], od[..., 1], od[..., 2]
        chroma = green - np.minimum(red, blue)
        inked[start:end] = is_ink(od)
        dyed = chroma > CHROMA_OD / 3 if coloured else True
        stained[start:end] = ((green > TISSUE_OD) & dyed) | (chroma > CHROMA_OD) | (green > 0.5)
    return stained, inked


def is_ink(od: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell of optical densities (..., 3) which are those of blue or green ink: no dye of H&E absorbs red most."""
    red, green = od[..., 0], od[..., 1]
    return np.asarray((red > INK_OD) & (red > INK_RED_OVER_GREEN * green) & (green < 2.0), bool)


def optical_density(rgb: NDArray[np.uint8], glass: NDArray[np.float64]) -> NDArray[np.float32]:
    """Optical density (H, W, 3), natural logarithm, against `glass` (3,)."""
    # A table of the 256 values: no temporary of the picture's size, and no logarithm per pixel.
    values = np.maximum(np.arange(256), 1).astype(np.float32)[:, None]
    table = np.maximum(np.log(np.maximum(glass, 1.0)) - np.log(values), 0).astype(np.float32)
    return np.asarray(cv2.LUT(rgb, table[None]), np.float32)


def _without_small(mask: NDArray[np.bool_], cells: float) -> NDArray[np.bool_]:
    """Return the mask without regions of fewer cells; cells that touch by a corner are one region."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= cells
    large[0] = False
    return np.asarray(large[labels], bool)
