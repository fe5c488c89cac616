"""Stain normalisation: every slide is brought to the density of stain that its model knows, before the network sees it.

Laboratories stain and cut so differently that skin is four times as dense on one real slide as on another. Per
channel, optical density is multiplied by one number for the whole slide, which moves the median of its tissue to where
it lay on the slides of the training (after Reinhard et al. 2001, with gains alone, and robust against lesions: a median
takes no notice of a part). What is judged about the slide itself, its stain and focus, is measured on the pixels as
they are.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.tiles import Reader
from histo.data.tissue import TISSUE_OD, Tissue, glass_of, optical_density
from histo.geometry import ReadPlan
from histo.results import Overview

MOST_GAIN = 4.0  # beyond it noise would be stretched into texture
WHITE = 240.0  # where the glass goes
COLOURLESS = 0.08  # range of the three shares of density below which a slide is grey and stays so
MOST_PIXELS = 2**17  # a median needs no more


@dataclass(frozen=True, eq=False)
class StainNorm:
    """A table (1, 256, 3) of new values for every channel of a slide; None leaves pixels as they are."""

    table: NDArray[np.uint8] | None = None

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels (..., W, 3) with the new values."""
        if self.table is None or not rgb.size:
            return rgb
        flat = cv2.LUT(rgb.reshape(-1, rgb.shape[-2], 3), self.table)
        return np.asarray(flat, np.uint8).reshape(rgb.shape)


AS_THEY_ARE = StainNorm()


def stain_norm_of(overview: Overview, tissue: Tissue, wanted_od: tuple[float, float, float] | None) -> StainNorm:
    """Return what brings the median optical density (natural logarithm) of a slide's tissue to `wanted_od`.

    Ink counts for nothing. A slide without stained pixels stays as it is, and so does every slide of a model that asks
    for no density.
    """
    if wanted_od is None:
        return AS_THEY_ARE
    return stain_norm_for(_tissue_rgb(overview, tissue), glass_of(overview.rgb), wanted_od)


def tissue_od(overview: Overview, tissue: Tissue) -> tuple[float, float, float] | None:
    """Return the median optical density (red, green, blue) of a slide's stained tissue; None where it has none."""
    stained = _stained(_tissue_rgb(overview, tissue), glass_of(overview.rgb))
    if not len(stained):
        return None
    red, green, blue = (float(v) for v in np.median(stained, axis=0))
    return red, green, blue


def _tissue_rgb(overview: Overview, tissue: Tissue) -> NDArray[np.uint8]:
    inside = overview.rgb[tissue.mask & ~tissue.excluded]
    return inside[:: max(1, -(-len(inside) // MOST_PIXELS))]


def _stained(rgb: NDArray[np.uint8], glass: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the optical densities (M, 3) of those pixels (N, 3) that are stained."""
    if not len(rgb):
        return np.empty((0, 3), np.float32)
    od = optical_density(rgb[None], glass)[0]
    return np.asarray(od[od[:, 1] > TISSUE_OD], np.float32)


def stain_norm_for(
    tissue_rgb: NDArray[np.uint8], glass: NDArray[np.float64], wanted_od: tuple[float, float, float]
) -> StainNorm:
    """Return the normalisation of tissue pixels (N, 3) seen against `glass` (3,), see `stain_norm_of`."""
    stained = _stained(tissue_rgb, glass)
    if not len(stained):
        return AS_THEY_ARE
    median, wanted = np.median(stained, axis=0), np.array(wanted_od)
    if np.ptp(median / median.sum()) < COLOURLESS:
        median, wanted = np.full(3, median.mean()), np.full(3, wanted.mean())
    gain = np.clip(wanted / np.maximum(median, 1e-3), 1 / MOST_GAIN, MOST_GAIN)
    value = np.maximum(np.arange(256), 1)[:, None]
    density = np.maximum(np.log(glass) - np.log(value), 0) * gain
    return StainNorm(np.floor(WHITE * np.exp(-density) + 0.5).astype(np.uint8)[None])


@dataclass(frozen=True)
class NormalisedReader:
    """Reads tiles as `slide` does and gives them normalised."""

    slide: Reader
    stain_norm: StainNorm

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> NDArray[np.uint8]:
        """Read one square tile (S, S, 3) uint8. Raises `SlideFailed` where the file is damaged."""
        return self.stain_norm.apply(self.slide.read_tile(position_level0_px, plan))
