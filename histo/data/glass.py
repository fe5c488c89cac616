"""The colour of a slide's glass, against which every optical density is measured."""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from histo.results import Overview

BRIGHT = 215  # in every channel: glass as nearly every scanner shows it, and no tissue that is stained
DIM = 150  # darker than that, light through glass is no longer told from tissue
USUAL = 245.0  # a slide that is all tissue has no glass to measure
PURE = 255
_PURE_SHARE = (0.2, 0.8)  # of what is bright; with more, the light itself is saturated
_ONE_COLOUR = 8  # interquartile range of green in glass, which has no structure
_DIM_SHARE, _DIM_OVER_BRIGHT, _BRIGHTER = 0.05, 10, 0.01
_RED_BY_GREEN, _GREEN_BY_BLUE = (0.94, 1.06), (0.9, 1.22)  # lamps are yellowish; eosin takes green from the light

# Four steps ask it of every slide, and it takes half a second on a large one.
_measured: WeakKeyDictionary[Overview, NDArray[np.float64]] = WeakKeyDictionary()


def glass_of(overview: Overview) -> NDArray[np.float64]:
    """Return the colour (3,) of the glass on an overview, not to be written to; what was not scanned is no glass.

    It is measured once: an overview's picture is never changed.
    """
    if overview not in _measured:
        rgb = overview.rgb
        glass = glass_among(rgb.reshape(-1, 3) if overview.scanned is None else rgb[overview.scanned])
        glass.setflags(write=False)
        _measured[overview] = glass
    return _measured[overview]


def glass_among(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the colour (3,) of the glass among pixels (N, 3), or a usual one where there is none.

    Pure white beside glass of another colour is taken for what the scanner left out: not every format says so. Where
    next to nothing is bright, glass in the light of a dim or yellowish lamp is looked for.
    """
    least = darkest(rgb)
    pure, is_bright = least == PURE, least >= BRIGHT
    bright = rgb[is_bright]
    if len(bright) and _PURE_SHARE[0] < pure.sum() / len(bright) < _PURE_SHARE[1] and _is_glass(rgb[is_bright & ~pure]):
        bright = rgb[is_bright & ~pure]
    if len(bright) * _DIM_OVER_BRIGHT < len(rgb):
        dim = rgb[_is_neutral(rgb) & (rgb[:, 1] >= DIM)]
        if len(dim) > max(_DIM_SHARE * len(rgb), _DIM_OVER_BRIGHT * len(bright)) and _is_glass(dim):
            # Glass is the brightest thing on a slide.
            brighter = (least > np.median(dim, axis=0).max() + _ONE_COLOUR) & ~pure
            bright = dim if brighter.mean() < _BRIGHTER else bright
    return np.asarray(np.median(bright, axis=0) if len(bright) else np.full(3, USUAL), float)


def darkest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the lowest channel of pixels (..., 3): NumPy's `min` along so short an axis takes ten times as long."""
    return np.asarray(np.minimum(np.minimum(rgb[..., 0], rgb[..., 1]), rgb[..., 2]))


def _is_neutral(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = (np.maximum(rgb[:, c], 1).astype(np.float32) for c in range(3))
    by_green, by_blue = red / green, green / blue
    neutral = (by_green > _RED_BY_GREEN[0]) & (by_green < _RED_BY_GREEN[1])
    return np.asarray(neutral & (by_blue > _GREEN_BY_BLUE[0]) & (by_blue < _GREEN_BY_BLUE[1]), bool)


def _is_glass(rgb: NDArray[np.uint8]) -> bool:
    """Tell whether pixels are of one colour without eosin; pale tissue beside saturated glass is pinker."""
    low, high = np.percentile(rgb[:, 1], (25, 75))
    return bool(high - low <= _ONE_COLOUR and _is_neutral(np.median(rgb, axis=0, keepdims=True).astype(np.uint8))[0])
