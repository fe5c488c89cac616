"""Whether nuclei have a nucleus's size: a slide whose recorded scale is twice the true one shows them twice as large.

Round nuclei are blobs in the red channel, which haematoxylin absorbs and eosin hardly. At 1 µm per pixel their middle
diameter, weighted by area, is 3.4 to 4.5 µm on our five real slides and 4.5 to 7.4 µm on 20 phantoms; with the scale
wrong by two it is 4.5 to 8.5 and 7.7 to 12.8 µm. The other direction cannot be told: nuclei of half the size are three
pixels wide, and so are chromatin grains and dust.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.tile_sample import THREADS
from histo.geometry import Pyramid, is_credible_mpp, same_mpp
from histo.results import Reason
from histo.wording import beside

LARGEST_UM = 9.0
LEAST_NUCLEI = 40
COARSEST_MPP = 1.3
SMALLEST_PX, LARGEST_PX = 5, 2000
ROUND = 1.6  # longest side of the box by its shortest
FILLED = (0.8, 1.35)  # area by that of the ellipse in the box
CONTRAST = 0.5  # of the strongest blobs of the tile
LEAST_CONTRAST = 0.12
_SMOOTH_UM, _AROUND_UM = 0.7, 15.0


@dataclass(frozen=True)
class Nuclei:
    """How many round nuclei were found and their middle diameter in µm, weighted by area."""

    count: int
    width_um: float


def measure_nuclei(tiles: NDArray[np.uint8], mpp: float, glass: NDArray[np.float64]) -> Nuclei | None:
    """Measure round nuclei on tiles (N, S, S, 3) of `mpp` µm per pixel; None for too few or too coarse."""
    if mpp > COARSEST_MPP or not len(tiles):
        return None
    if mpp < 1 / COARSEST_MPP:
        tiles = np.stack([cv2.resize(t, None, fx=mpp, fy=mpp, interpolation=cv2.INTER_AREA) for t in tiles])
        mpp = 1.0
    with ThreadPoolExecutor(THREADS) as pool:
        areas = np.concatenate([*pool.map(partial(_areas_px, mpp=mpp, glass=glass[0]), tiles)])
    if len(areas) < LEAST_NUCLEI:
        return None
    areas = np.sort(areas)
    half = int(np.searchsorted(np.cumsum(areas), areas.sum() / 2))
    return Nuclei(len(areas), float(2 * np.sqrt(areas[half] / np.pi) * mpp))


def scale_reasons(nuclei: Nuclei | None) -> tuple[Reason, ...]:
    """Return why the scale must be doubted."""
    if nuclei is None or nuclei.width_um <= LARGEST_UM:
        return ()
    text = (
        f"Nuclei are {beside(nuclei.width_um, LARGEST_UM, 1)} µm wide ({nuclei.count} measured); {LARGEST_UM:g} µm "
        "is the most that is usual. Check the scale, which may be twice the true one, and give the right one with "
        "--mpp."
    )
    return (Reason("implausible_scale", text),)


def overruled_scale(pyramid: Pyramid) -> tuple[Reason, ...]:
    """Return that the user's scale is not the one that the file records, where that is a credible one."""
    given, recorded = pyramid.mpp_x, pyramid.recorded_mpp
    if pyramid.scale_source != "user" or recorded is None or not all(map(is_credible_mpp, recorded)):
        return ()
    if all(same_mpp(one, given) for one in recorded):
        return ()
    text = (
        f"The scale was given with --mpp {given:g} and the file records {recorded[0]:.4g} x {recorded[1]:.4g} µm per "
        "pixel: make sure which is true, because areas and verdict depend on it; leave --mpp out where the file is "
        "right."
    )
    return (Reason("overruled_scale", text),)


def _areas_px(tile: NDArray[np.uint8], mpp: float, glass: float) -> NDArray[np.float64]:
    """Return the areas of round dark blobs in pixels of the tile."""
    table = np.maximum(np.log(max(glass, 1.0)) - np.log(np.maximum(np.arange(256), 6)), 0).astype(np.float32)
    red = np.asarray(cv2.LUT(np.ascontiguousarray(tile[..., 0]), table), np.float32)
    # What lies around, at a quarter of the size: a wide blur costs most of the time.
    small = cv2.resize(red, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _AROUND_UM / mpp / 4)
    around = cv2.resize(small, (red.shape[1], red.shape[0]), interpolation=cv2.INTER_LINEAR)
    above = cv2.GaussianBlur(red, (0, 0), _SMOOTH_UM / mpp) - around
    least = max(LEAST_CONTRAST, CONTRAST * float(np.quantile(above[::4, ::4], 0.995)))
    _, _, found, _ = cv2.connectedComponentsWithStats((above > least).astype(np.uint8), connectivity=4)
    area, wide, high = (found[1:, i].astype(float) for i in (cv2.CC_STAT_AREA, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    filled = area / (wide * high * np.pi / 4)
    keep = (area >= SMALLEST_PX) & (area <= LARGEST_PX) & (np.maximum(wide, high) <= ROUND * np.minimum(wide, high))
    return np.asarray(area[keep & (filled > FILLED[0]) & (filled < FILLED[1])])
