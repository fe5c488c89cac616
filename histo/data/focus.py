"""Whether the tissue of a slide is in focus: fine structure against middle structure, in optical density.

The gain of a stain scales both bands, so their ratio does not depend on it. Band-pass energies as measures of focus:
Pertuz et al. 2013. The noise of the camera is measured in the finest band, in which a blurred picture has nothing else.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.tile_sample import THREADS
from histo.results import Reason
from histo.wording import percent_beside

SCALES_UM = (0.7, 1.4, 2.8, 5.6)  # standard deviations of the blurs between which the bands lie
# Of white noise, the energy in the fine band (0.7 to 1.4 px) by that in the finest (below 0.7 px).
NOISE_SHARE = 0.14
SHARPEST_BLURRED = 0.17  # ratio of fine to middle amplitude: 0.12 to 0.15 after a blur of 4 µm, 0.2 to 0.3 after 2 µm
LEAST_TISSUE = 0.3
TISSUE_OD = 0.1
LEAST_OD = 0.006  # amplitude in the middle band below which nothing can be told
MOST_BLURRED = 0.3
COARSEST_MPP = 1.3  # a coarser tile does not hold the fine band
_PARTS = 2  # a tile is judged in quarters


@dataclass(frozen=True)
class Focus:
    """The share of the tissue that is out of focus, and the middle sharpness: fine by middle amplitude."""

    blurred: float
    sharpness: float


def measure_focus(tiles: NDArray[np.uint8], mpp: float) -> Focus | None:
    """Measure the focus of tiles (N, S, S, 3) of `mpp` µm per pixel.

    None when nothing can be told: too coarse, or too little tissue with structure.
    """
    if mpp > COARSEST_MPP:
        return None
    with ThreadPoolExecutor(THREADS) as pool:
        measured = [part for parts in pool.map(partial(_parts, mpp=mpp), tiles) for part in parts]
    weight = sum(tissue for tissue, _ in measured)
    if not weight:
        return None
    blurred = sum(tissue for tissue, sharpness in measured if sharpness < SHARPEST_BLURRED) / weight
    return Focus(float(blurred), float(np.median([sharpness for _, sharpness in measured])))


def focus_reasons(focus: Focus | None, tissue_mm2: float) -> tuple[Reason, ...]:
    """Return why the focus forbids a verdict without review."""
    if focus is None or focus.blurred < MOST_BLURRED:
        return ()
    share = focus.blurred
    blurred = f"About {percent_beside(share, MOST_BLURRED)} of the tissue ({share * tissue_mm2:.2f} mm²)"
    text = f"{blurred} is out of focus; scan the slide again."
    return (Reason("out_of_focus", text),)


def _parts(tile: NDArray[np.uint8], mpp: float) -> list[tuple[float, float]]:
    """Return tissue share and sharpness of the quarters of a tile that hold tissue and structure."""
    if mpp < 1 / COARSEST_MPP:
        tile = np.asarray(cv2.resize(tile, None, fx=mpp, fy=mpp, interpolation=cv2.INTER_AREA), np.uint8)
        mpp = 1.0
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    table = -np.log(np.maximum(np.arange(256), 8) / 255).astype(np.float32)
    od = np.asarray(cv2.LUT(grey, table), np.float32)
    blurred = [od, *(np.asarray(cv2.GaussianBlur(od, (0, 0), s / mpp), np.float32) for s in SCALES_UM)]
    tissue = (blurred[-1] > TISSUE_OD).astype(np.float32)
    energy = [_mean(tissue * (a - b) ** 2) for a, b in pairwise(blurred)]
    shares = _mean(tissue)
    fine = np.maximum(energy[1] - NOISE_SHARE * energy[0], 0)
    found = []
    for share, top, bottom in zip(shares.flat, fine.flat, energy[3].flat, strict=True):
        if share >= LEAST_TISSUE and bottom >= LEAST_OD**2 * share:
            found.append((float(share), float(np.sqrt(top / bottom))))
    return found


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values, (_PARTS, _PARTS), interpolation=cv2.INTER_AREA), np.float32)
