"""Where lesions lie in the tissue: how far from its edge."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.models.lesions import ClassFindings
from histo.outlines import cells_inside
from histo.results import Lesion, SlideMap

HALF = 0.5  # a cell is tissue when this share of it is


def locate(findings: Sequence[ClassFindings], slide_map: SlideMap) -> tuple[ClassFindings, ...]:
    """Return the findings with the distance of every lesion to the nearest edge of the tissue, from its nearest cell.

    Holes are no edges; where the scan ends is one.
    """
    if not any(f.lesions for f in findings):
        return tuple(findings)
    cells = distance(without_holes(slide_map.tissue >= HALF))
    edge_mm = np.maximum(cells - HALF, 0) * float(np.mean(slide_map.grid.cell_um)) / 1000

    def placed(lesion: Lesion) -> Lesion:
        rows, columns = cells_inside(lesion.outline, slide_map.grid).T
        return replace(lesion, edge_mm=float(edge_mm[rows, columns].min())) if len(rows) else lesion

    return tuple(replace(f, lesions=tuple(placed(lesion) for lesion in f.lesions)) for f in findings)


def without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask (H, W) with everything filled that cannot be reached from outside."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    return np.asarray(labels != labels[0, 0])[1:-1, 1:-1]


def distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how many cells every cell of a mask (H, W) lies from the nearest one outside it or outside the lattice."""
    padded = np.pad(mask, 1).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)[1:-1, 1:-1]
