"""One fixed colour scale per class, the same for every slide: never stretched to a slide's own range."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

STEPS = 256
VISIBLE_FROM = 0.1  # below it the tissue is shown alone
STRONGEST_ALPHA = 0.9


@cache
def scale(colour: Colour) -> NDArray[np.uint8]:
    """Return the scale (256, 3) RGB from white to `colour`, linear in CIELAB and so even in lightness."""
    ends = np.array([[(255, 255, 255), colour]], np.float32) / 255
    white, full = cv2.cvtColor(ends, cv2.COLOR_RGB2Lab)[0].astype(np.float64)
    lab = white + np.linspace(0, 1, STEPS)[:, None] * (full - white)
    rgb = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_Lab2RGB)[0]
    table: NDArray[np.uint8] = np.floor(np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    table[[0, -1]] = (255, 255, 255), colour
    table.setflags(write=False)
    return table


def rgba(probability: NDArray[np.floating], colour: Colour) -> NDArray[np.uint8]:
    """Return probabilities (…) as RGBA (…, 4): the colour of the scale, and an opacity that grows with it.

    Up to `VISIBLE_FROM` it is fully transparent; what is not a number counts as zero.
    """
    known = np.clip(np.nan_to_num(np.asarray(probability, np.float32), nan=0.0), 0, 1)
    steps = (known * (STEPS - 1) + 0.5).astype(np.uint8)
    return np.take(_translucent(colour), steps, axis=0)


@cache
def _translucent(colour: Colour) -> NDArray[np.uint8]:
    """Return the scale (256, 4) RGBA; the step that `VISIBLE_FROM` itself falls on is still transparent."""
    steps = np.arange(STEPS)
    alpha = np.clip((steps / (STEPS - 1) - VISIBLE_FROM) / (1 - VISIBLE_FROM), 0, 1) * STRONGEST_ALPHA
    alpha[steps <= VISIBLE_FROM * (STEPS - 1) + 0.5] = 0
    return np.column_stack([scale(colour), np.floor(alpha * 255 + 0.5).astype(np.uint8)])


def blend(base: NDArray[np.uint8], over: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay RGBA (…, 4) over RGB (…, 3); whole numbers throughout, which is several times faster than floats."""
    alpha = over[..., 3:].astype(np.uint16)
    mixed = over[..., :3] * alpha
    mixed += base * (255 - alpha)
    mixed += 127
    mixed //= 255
    return mixed.astype(np.uint8)


def colour_bar(colour: Colour, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return the legend (height, width, 3): the scale from 0 to 1 as it looks over white."""
    ramp = np.broadcast_to(np.linspace(0, 1, width_px, dtype=np.float32), (height_px, width_px))
    return blend(np.full((height_px, width_px, 3), 255, np.uint8), rgba(ramp, colour))
