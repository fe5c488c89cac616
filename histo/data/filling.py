"""Black that a converter wrote where the scanner saw nothing: few formats can say so by transparency.

Left as it is, it would be the darkest tissue of the slide. It is told from fields that are dark throughout
(fluorescence, inverted colours) by the bright glass beside it, and from calcium by its size and by reaching the border.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.glass import BRIGHT, darkest

BLACK = 3  # in every channel: JPEG leaves no darker tissue and no other filling
LEAST_MM2 = 0.05
GLASS_SHARE = 0.05  # of what is not black, that must be glass
RIM_CELLS = 2  # around it, where averages and JPEG mix it with what is beside


def find_filling(rgb: NDArray[np.uint8], cell_mm2: float) -> NDArray[np.bool_]:
    """Return which cells (H, W) of an overview (H, W, 3) are filling, with a rim around it."""
    black = (rgb[..., 0] <= BLACK) & (rgb[..., 1] <= BLACK) & (rgb[..., 2] <= BLACK)
    seen = int((~black).sum())
    if seen == black.size or int((darkest(rgb) >= BRIGHT).sum()) < max(1, GLASS_SHARE * seen):
        return np.zeros_like(black)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(black.view(np.uint8), connectivity=8)
    left, top, width, height, cells = stats.T
    at_border = (left == 0) | (top == 0) | (left + width == black.shape[1]) | (top + height == black.shape[0])
    filling = at_border & (cells * cell_mm2 >= LEAST_MM2)
    filling[0] = False
    kernel = np.ones((2 * RIM_CELLS + 1, 2 * RIM_CELLS + 1), np.uint8)
    return np.asarray(cv2.dilate(filling[labels].astype(np.uint8), kernel), bool)
