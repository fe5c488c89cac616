"""Stain normalisation: every slide is brought to the density of stain that its model knows, before the network sees it.

Laboratories stain and cut so differently that skin is four times as dense on one real slide as on another. Per
channel, optical density is multiplied by one number for the whole slide, which moves the median of its tissue to where
it lay on the slides of the training (after Reinhard et al. 2001, with gains alone, and robust against lesions: a median
takes no notice of a part). Haematoxylin is then scaled by itself, so that nuclei are as dark as there, while the median
stays. What is judged about the slide itself, its stain and focus, is measured on the pixels as they are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.config import TileConfig
from histo.data.glass import glass_of
from histo.data.nuclear_stain import FIELD_PX, WHITE, nuclear_od
from histo.data.slide import Slide
from histo.data.stain import HAEMATOXYLIN
from histo.data.tile_sample import fullest
from histo.data.tiles import Reader, TileDataset
from histo.data.tissue import TISSUE_OD, Tissue, optical_density
from histo.errors import SlideRefused
from histo.geometry import ReadPlan, TileSpec, lay_tiles, map_grid_for, rebin, tile_means
from histo.results import Overview, StainGains

MOST_GAIN = 4.0  # beyond it noise would be stretched into texture
TRUST = 0.75  # exponent of the nuclear gain: nuclei differ between tissues too, not only between stains
NUCLEAR_GAIN = (1 / 3, 2.0)  # its bounds; blur and tissue with few cells look like pale nuclei, so less upwards
RIDGE = 0.1  # noise grows by the nuclear gain less one over 2 √RIDGE at most
COLOURLESS = 0.08  # range of the three shares of density below which a slide is grey and stays so
MOST_PIXELS = 2**17  # a median needs no more
MOST_FIELDS = 12
_FIELD = TileSpec(FIELD_PX, 1.0, 16, 0)


@dataclass(frozen=True, eq=False)
class Gains:
    """What the channels of a slide are multiplied by (3,), and the median density (3,) that its tissue has then.

    `glass` (3,) are the values that have no density. A `grey` slide has one gain, and must stay grey.
    """

    gain: NDArray[np.float64]
    tissue_od: NDArray[np.float64]
    glass: NDArray[np.float64]
    grey: bool

    @property
    def density(self) -> NDArray[np.float32]:
        """New densities (1, 256, 3) for the values of every channel."""
        value = np.maximum(np.arange(256), 1)[:, None]
        return np.asarray(np.maximum(np.log(self.glass) - np.log(value), 0) * self.gain, np.float32)[None]


@dataclass(frozen=True, eq=False)
class StainNorm:
    """What a slide is normalised by: the gains of its channels, then the gain of haematoxylin alone.

    Without the second, channels stay apart; without gains, pixels stay as they are.
    """

    gains: Gains | None = None
    haematoxylin: float | None = None

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels (H, W, 3), or tiles of them (N, S, S, 3), with the new values."""
        if self.gains is None or not rgb.size:
            return rgb
        if self.haematoxylin is None:
            return np.asarray(cv2.LUT(rgb.reshape(-1, rgb.shape[-2], 3), self._values), np.uint8).reshape(rgb.shape)
        new = np.empty_like(rgb)
        each = (-1, *rgb.shape[-3:])
        for tile, into in zip(rgb.reshape(each), new.reshape(each), strict=True):
            light = cv2.transform(cv2.LUT(tile, self._density), self._darkening)
            np.minimum(light, 0, out=light)  # mixing could make it brighter than glass
            cv2.convertScaleAbs(cv2.exp(light, light), into, WHITE)
        return new

    @property
    def used(self) -> StainGains | None:
        """What a result says of it; None where pixels stay as they are."""
        if self.gains is None:
            return None
        red, green, blue = (round(float(gain), 4) for gain in self.gains.gain)
        return StainGains((red, green, blue), None if self.haematoxylin is None else round(self.haematoxylin, 4))

    @cached_property
    def _density(self) -> NDArray[np.float32]:
        assert self.gains is not None
        return self.gains.density

    @cached_property
    def _darkening(self) -> NDArray[np.float32]:
        assert self.gains is not None
        assert self.haematoxylin is not None
        return -haematoxylin_mixing(self.gains, self.haematoxylin)

    @cached_property
    def _values(self) -> NDArray[np.uint8]:
        return np.floor(WHITE * np.exp(-self._density) + 0.5).astype(np.uint8)


AS_THEY_ARE = StainNorm()


def stain_norm_of(slide: Slide, overview: Overview, tissue: Tissue, tile: TileConfig) -> StainNorm:
    """Return what brings a slide's tissue and nuclei to the densities of `tile`; ink counts for nothing."""
    if tile.tissue_od is None:
        return AS_THEY_ARE
    fields = _fields(slide, overview, tissue)
    return stain_norm_for(_tissue_rgb(overview, tissue), glass_of(overview), fields, tile)


def stain_norm_for(
    tissue_rgb: NDArray[np.uint8], glass: NDArray[np.float64], fields: Iterable[NDArray[np.uint8]], tile: TileConfig
) -> StainNorm:
    """Return the normalisation of tissue pixels (N, 3) seen against `glass` (3,), and of its `fields` (H, W, 3).

    Pixels without stain, and those for a model that asks for no density, stay as they are. Nuclei, looked for in the
    fields of 1 µm per pixel, stay as the median of the tissue leaves them where it is grey or too few are found.
    """
    gains = gains_for(tissue_rgb, glass, tile.tissue_od) if tile.tissue_od is not None else None
    if gains is None:
        return AS_THEY_ARE
    by_gains = StainNorm(gains)
    if tile.nuclear_od is None or gains.grey:
        return by_gains
    found = nuclear_od(by_gains.apply(field) for field in fields)
    return by_gains if found is None else StainNorm(gains, haematoxylin_gain(tile.nuclear_od, found))


def gains_for(
    tissue_rgb: NDArray[np.uint8], glass: NDArray[np.float64], wanted_od: tuple[float, float, float]
) -> Gains | None:
    """Return the gains that bring the median density of tissue pixels (N, 3) to `wanted_od`; None without stain."""
    stained = _stained(tissue_rgb, glass)
    if not len(stained):
        return None
    median, wanted = np.median(stained, axis=0), np.array(wanted_od)
    grey = bool(np.ptp(median / median.sum()) < COLOURLESS)
    if grey:
        median, wanted = np.full(3, median.mean()), np.full(3, wanted.mean())
    gain = np.clip(wanted / np.maximum(median, 1e-3), 1 / MOST_GAIN, MOST_GAIN)
    return Gains(gain, gain * median, np.asarray(glass, np.float64), grey)


def haematoxylin_gain(wanted: float, found: float) -> float:
    """Return what haematoxylin is multiplied by, so that nuclei come from `found` nearer to `wanted`."""
    return float(np.clip((wanted / found) ** TRUST, *NUCLEAR_GAIN))


def haematoxylin_mixing(gains: Gains, gain: float) -> NDArray[np.float32]:
    """Return the mixing (3, 3) that multiplies haematoxylin alone.

    Haematoxylin lies along its published hue, changed by the gains of the channels; what has the hue of the median
    tissue stays as it is. How much haematoxylin a pixel holds is told by ridge regression: where both hues are nearly
    one, little is changed, and noise is never multiplied by more than the ridge allows.
    """
    hue = HAEMATOXYLIN * gains.gain
    hue /= np.linalg.norm(hue)
    both = np.stack([hue, gains.tissue_od])
    amount = np.linalg.solve(both @ both.T + np.diag([RIDGE, 0.0]), both)[0]
    return np.asarray(np.eye(3) + (gain - 1) * np.outer(hue, amount), np.float32)


def _fields(slide: Slide, overview: Overview, tissue: Tissue) -> Iterator[NDArray[np.uint8]]:
    """Yield fields (S, S, 3) of 1 µm per pixel from all over the tissue, none of a coarser scan and no damaged ones."""
    try:
        grid, _ = map_grid_for(slide.pyramid, _FIELD)
    except SlideRefused:
        return
    share = rebin(tissue.mask & ~tissue.excluded, overview.grid, grid)
    tiles = lay_tiles(slide.pyramid, _FIELD, share)
    if not len(tiles):
        return
    full = fullest(tile_means(tiles, share))
    data = TileDataset.of(slide, tiles)
    for i in full[np.unique(np.linspace(0, len(full) - 1, MOST_FIELDS).round().astype(int))].tolist():
        field = data[i]
        if field is not None:
            yield field


@dataclass(frozen=True)
class Density:
    """Optical densities of a slide as it is: the median of its tissue, and the nuclei's (see `nuclear_od`) if known."""

    tissue: tuple[float, float, float]
    nuclei: float | None


def density_of(slide: Slide, overview: Overview, tissue: Tissue) -> Density | None:
    """Return the densities of a slide; None where it has no stained tissue."""
    glass = glass_of(overview)
    stained = _stained(_tissue_rgb(overview, tissue), glass)
    if not len(stained):
        return None
    red, green, blue = (float(v) for v in np.median(stained, axis=0))
    as_it_is = StainNorm(Gains(np.ones(3), np.median(stained, axis=0), glass, False))
    return Density((red, green, blue), nuclear_od(as_it_is.apply(f) for f in _fields(slide, overview, tissue)))


def _tissue_rgb(overview: Overview, tissue: Tissue) -> NDArray[np.uint8]:
    inside = np.flatnonzero(tissue.mask & ~tissue.excluded)
    return overview.rgb.reshape(-1, 3)[inside[:: max(1, -(-len(inside) // MOST_PIXELS))]]


def _stained(rgb: NDArray[np.uint8], glass: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the optical densities (M, 3) of those pixels (N, 3) that are stained."""
    if not len(rgb):
        return np.empty((0, 3), np.float32)
    od = optical_density(rgb[None], glass)[0]
    return np.asarray(od[od[:, 1] > TISSUE_OD], np.float32)


@dataclass(frozen=True)
class NormalisedReader:
    """Reads tiles as `slide` does and gives them normalised."""

    slide: Reader
    stain_norm: StainNorm

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> NDArray[np.uint8]:
        """Read one square tile (S, S, 3) uint8. Raises `SlideFailed` where the file is damaged."""
        return self.stain_norm.apply(self.slide.read_tile(position_level0_px, plan))
