"""Whether the colours of a slide are those of haematoxylin and eosin, whatever the laboratory.

In optical density both dyes absorb green most, so of the three densities of a pixel the share of green is large: 0.42
in pure haematoxylin, 0.5 in eosin (Macenko et al. 2009), 0.46 to 0.55 on average on the real slides that we have. Brown
(DAB, melanin), blue and green dyes, pictures with inverted colours and fluorescence fall below. Pale to almost black,
cool to warm stains do not: gains scale all three.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.data.tissue import is_ink, optical_density
from histo.results import Reason
from histo.wording import percent_beside

REDUCED_PX = 64  # side to which a tile is averaged: single pixels have the noise of the camera and of JPEG
LEAST_OD = 0.45  # sum of the three densities from which a colour can be told
BLACK = 50  # darker than this in all channels has no colour
LEAST_GREEN, MOST_RED = 0.40, 0.36  # shares of the density that mixtures of the two dyes have
GREY = 0.08  # range of the three shares below which there is no colour
LEAST_PIXELS = 100
MOST_UNEXPLAINED = 0.5
MOST_GREY = 0.8
MOST_BLACK = 0.5
OTHER_LABORATORY = {"red": 0.08, "blue": 0.08}  # how far a colour may lie outside what the reference slides show
OTHER_GAIN = 2.5  # and how many times as dense or as pale (van der Laak et al., 66 laboratories, 2025)


@dataclass(frozen=True)
class StainSigns:
    """The colours of the stained pixels of a sample, and how much of it, glass included, is black.

    `grey` is the share of the stained pixels without colour, `unexplained` that of those with one which is not H&E's.
    `red` and `blue` are their mean shares of optical density, `density` its mean sum; None without stained pixels.
    """

    black: float
    unexplained: float | None = None
    grey: float | None = None
    red: float | None = None
    blue: float | None = None
    density: float | None = None


def measure_stain(tiles: NDArray[np.uint8], glass: NDArray[np.float64]) -> StainSigns:
    """Measure tiles (N, S, S, 3) against the colour of the glass (3,); ink is left out unless it is most of all."""
    small = [cv2.resize(t, (REDUCED_PX, REDUCED_PX), interpolation=cv2.INTER_AREA) for t in tiles]
    if not small:
        return StainSigns(black=0.0)
    rgb = np.concatenate([np.asarray(t, np.uint8).reshape(1, -1, 3) for t in small], axis=1)
    od = optical_density(rgb, glass)[0]
    total = od.sum(axis=1)
    light = rgb[0].max(axis=1) >= BLACK
    stained = (total > LEAST_OD) & light
    ink = is_ink(od) & stained
    if ink.sum() < 0.5 * stained.sum():
        stained &= ~ink
    black = float(1 - light.mean())
    if stained.sum() < LEAST_PIXELS:
        return StainSigns(black)
    share = od[stained] / total[stained, None]
    grey = np.ptp(share, axis=1) < GREY
    other = (share[:, 1] < LEAST_GREEN) | (share[:, 0] > MOST_RED)
    coloured = max(1, int((~grey).sum()))
    mean = od[stained].sum(axis=0) / total[stained].sum()
    return StainSigns(
        black,
        unexplained=float((other & ~grey).sum() / coloured),
        grey=float(grey.mean()),
        red=float(mean[0]),
        blue=float(mean[2]),
        density=float(total[stained].mean()),
    )


def stain_reasons(signs: StainSigns, reference: Mapping[str, tuple[float, float]] | None) -> tuple[Reason, ...]:
    """Return why the stain forbids a verdict without review; `reference` holds the ranges of the model's slides."""
    if signs.black > MOST_BLACK:
        share = percent_beside(signs.black, MOST_BLACK)
        text = (
            f"{share} of the sampled tiles is too dark to tell a colour: stained far too strongly, too thick, or not "
            "a slide in transmitted light."
        )
        return (Reason("not_h_and_e", text),)
    if signs.grey is None or signs.unexplained is None:
        return ()
    if signs.grey > MOST_GREY:
        share = percent_beside(signs.grey, MOST_GREY)
        text = f"{share} of what is stained has no colour: in grey, H&E cannot be told from other stains."
        return (Reason("no_colour", text),)
    if signs.unexplained > MOST_UNEXPLAINED:
        share = percent_beside(signs.unexplained, MOST_UNEXPLAINED)
        text = f"{share} of what has colour has a colour that no H&E stain gives; the model knows only H&E."
        return (Reason("not_h_and_e", text),)
    return _unusual(signs, reference or {})


def _unusual(signs: StainSigns, reference: Mapping[str, tuple[float, float]]) -> tuple[Reason, ...]:
    told = []
    for name, most in OTHER_LABORATORY.items():
        value = getattr(signs, name)
        if name in reference and not reference[name][0] - most <= value <= reference[name][1] + most:
            told.append(f"the share of {name} in its colour is {value:.2f}")
    low, high = reference.get("density", (0.0, np.inf))
    if signs.density is not None and not low / OTHER_GAIN <= signs.density <= high * OTHER_GAIN:
        told.append(f"its mean density is {signs.density:.2f}")
    if not told:
        return ()
    text = f"The stain lies far outside that of the slides the model was made with: {' and '.join(told)}."
    return (Reason("unusual_stain", text),)
