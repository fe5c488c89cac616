"""How darkly the nuclei of a slide are stained: the one measure of haematoxylin that every tissue offers.

The median of the tissue is mostly eosin, so two slides that agree in it may differ fourfold in haematoxylin. Nuclei are
small dark spots in red light, which eosin hardly absorbs: what is smaller than the structuring element stands out in a
top-hat transform (Serra 1982), and of its peaks the darkest few hundred a mm² are counted, so that neither a field of
lymphocytes nor a lake of calcium moves the measure.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.tile_sample import THREADS
from histo.data.tissue import TISSUE_OD

FIELD_PX = 256  # of 1 µm
WHITE = 240.0  # where the glass of normalised pixels lies
SPOTS_A_MM2 = 200  # even fibrous tissue holds more nuclei than that
_SPOT = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))  # in it nuclei fit
_APART = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
_LEAST_OD = 0.2  # texture of tissue without cells stands out by up to that much
_LEAST_TISSUE_MM2 = 0.05
_LEAST_SPOTS = 10
_DENSITY = np.log(WHITE / np.maximum(np.arange(256), 1)).clip(0).astype(np.float32)


def nuclear_od(fields: Iterable[NDArray[np.uint8]]) -> float | None:
    """Return the median red optical density by which the darkest spots of fields stand out from their surroundings.

    Fields (H, W, 3) are of 1 µm per pixel, their glass at `WHITE`. None where there is too little tissue, or too few
    spots to be sure that they are nuclei.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        measured = list(pool.map(_spots, fields))
    tissue_mm2 = sum(area for area, _ in measured)
    if tissue_mm2 < _LEAST_TISSUE_MM2:
        return None
    spots = np.sort(np.concatenate([found for _, found in measured]))[::-1]
    darkest = spots[: max(_LEAST_SPOTS, round(SPOTS_A_MM2 * tissue_mm2))]
    if len(darkest) < _LEAST_SPOTS or np.median(darkest) < _LEAST_OD:
        return None
    return float(np.median(darkest))


def _spots(field: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
    """Return the tissue of a field in mm², and how much every small dark spot on it stands out."""
    red, green = (np.asarray(cv2.LUT(np.ascontiguousarray(field[..., c]), _DENSITY), np.float32) for c in (0, 1))
    tissue = cv2.blur((green > TISSUE_OD).astype(np.float32), (9, 9)) > 0.5
    smooth = cv2.GaussianBlur(red, (0, 0), 1.0)
    above = cv2.morphologyEx(smooth, cv2.MORPH_TOPHAT, _SPOT)
    peaks = (cv2.dilate(above, _APART) == above) & tissue & (above > 0)
    _, numbers = cv2.connectedComponents(peaks.astype(np.uint8))
    _, once = np.unique(numbers[peaks], return_index=True)  # what is clipped is flat, and one spot all the same
    return float(tissue.sum()) * 1e-6, np.asarray(above[peaks][once], np.float32)
