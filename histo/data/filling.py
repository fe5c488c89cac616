"""Black or white that a converter wrote where the scanner saw nothing: few formats can say so by transparency.

Left as it is, black would be the darkest tissue of the slide, and white the glass against which all density is
measured. Filling is of one colour to the last bit, reaches the border, and ends along rows and columns of pixels: so it
is told from fields that are dark throughout (fluorescence, inverted colours), from calcium, and from glass in saturated
light. Black is told by bright glass beside it, too. It must be wide as well: narrow stripes of a line scanner that are
saturated end straight and cross the tissue.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.glass import BRIGHT, PURE, darkest

BLACK = 3  # in every channel: JPEG leaves no darker tissue and no other filling
LEAST_MM2 = 0.05
GLASS_SHARE = 0.05  # of what is not black, that must be glass
RIM_CELLS = 2  # around it, where averages and JPEG mix it with what is beside
STRAIGHT_CELLS, STRAIGHT_SHARE = 24, 0.5  # a stretch of edge is straight from that length on; so much of it must be
WIDE_CELLS = 25  # side of a square that filling must hold where its edge tells it


def find_filling(rgb: NDArray[np.uint8], cell_mm2: float) -> NDArray[np.bool_]:
    """Return which cells (H, W) of an overview (H, W, 3) are filling, with a rim around it."""
    black = (rgb[..., 0] <= BLACK) & (rgb[..., 1] <= BLACK) & (rgb[..., 2] <= BLACK)
    least = darkest(rgb)
    has_glass = int((least >= BRIGHT).sum()) >= max(1, GLASS_SHARE * int((~black).sum()))
    found = _at_border(black, cell_mm2, straight=not has_glass)
    found |= _at_border(least == PURE, cell_mm2, straight=True)
    kernel = np.ones((2 * RIM_CELLS + 1, 2 * RIM_CELLS + 1), np.uint8)
    return np.asarray(cv2.dilate(found.view(np.uint8), kernel), bool)


def _at_border(mask: NDArray[np.bool_], cell_mm2: float, straight: bool) -> NDArray[np.bool_]:
    """Return the regions of a mask (H, W) that are large and reach its border; those that end straight, if asked."""
    found = np.zeros_like(mask)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    height, width = mask.shape
    for label, (x, y, w, h, cells) in enumerate(stats.tolist()):
        at_border = x == 0 or y == 0 or x + w == width or y + h == height
        if label and at_border and cells * cell_mm2 >= LEAST_MM2:
            # One cell more on every side, so that the region's own edge is seen.
            box = np.s_[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1]
            region = labels[box] == label
            if not straight or (_is_wide(region) and straight_share(region) >= STRAIGHT_SHARE):
                found[box] |= region
    return found


def _is_wide(region: NDArray[np.bool_]) -> bool:
    """Tell whether a region (H, W) holds a square of `WIDE_CELLS`."""
    kernel = np.ones((WIDE_CELLS, WIDE_CELLS), np.uint8)
    padded = np.pad(region.astype(np.uint8), 1)  # OpenCV takes what lies beyond a picture for part of it
    return bool(cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).any())


def straight_share(region: NDArray[np.bool_]) -> float:
    """Return how much of the edge of a region (H, W) runs straight along rows and columns; 0 where it has no edge.

    The picture's own border is no edge.
    """
    lengths = np.concatenate([_edge_lengths(region), _edge_lengths(region.T)])
    return float(lengths[lengths >= STRAIGHT_CELLS].sum() / max(lengths.sum(), 1))


def _edge_lengths(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths (N,) of the straight stretches between one row of a region (H, W) and the next."""
    edges = np.pad(region[1:] != region[:-1], ((0, 0), (1, 1))).astype(np.int8)
    turns = np.diff(edges, axis=1)
    # Row by row every beginning has its end.
    return np.asarray(np.nonzero(turns == -1)[1] - np.nonzero(turns == 1)[1], np.int64)
