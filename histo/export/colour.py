"""One fixed colour scale per class, the same for every slide: never stretched to a slide's own range."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

STEPS = 256
VISIBLE_FROM = 0.1  # below it the tissue is shown alone
OPAQUE_FROM = 0.25  # from here on the opacity is the same, so that a colour can be found on the bar
STRONGEST_ALPHA = 0.85


@cache
def scale(colour: Colour) -> NDArray[np.uint8]:
    """Return the scale (256, 3) RGB from white to `colour`, linear in CIELAB and so even in lightness."""
    white, full = _to_lab(np.array([(255, 255, 255), colour]) / 255)
    rgb = _from_lab(white + np.linspace(0, 1, STEPS)[:, None] * (full - white))
    table: NDArray[np.uint8] = np.floor(np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    table[[0, -1]] = (255, 255, 255), colour
    table.setflags(write=False)
    return table


# Not OpenCV's, which takes a tenth of a second to make tables for whole pictures.
_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])  # of linear sRGB
_XYZ /= _XYZ.sum(axis=1, keepdims=True)  # as shares of the white
_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], float)  # of the cube roots
_OFFSET = np.array([16, 0, 0])
_KNEE = 6 / 29  # below it CIELAB is linear


def _to_lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CIELAB (N, 3) of sRGB (N, 3) from 0 to 1, against the white of the screen (D65)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    share = linear @ _XYZ.T
    root = np.where(share > _KNEE**3, np.cbrt(share), share / (3 * _KNEE**2) + 4 / 29)
    return np.asarray(root @ _LAB.T - _OFFSET)


def _from_lab(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sRGB (N, 3) of CIELAB (N, 3); outside 0 to 1 where a screen cannot show it."""
    root = (lab + _OFFSET) @ np.linalg.inv(_LAB).T
    share = np.where(root > _KNEE, root**3, 3 * _KNEE**2 * (root - 4 / 29))
    linear = share @ np.linalg.inv(_XYZ).T
    return np.asarray(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055))


def rgba(probability: NDArray[np.floating], colour: Colour) -> NDArray[np.uint8]:
    """Return probabilities (…) as RGBA (…, 4): the colour of the scale, nearly opaque from `OPAQUE_FROM` on.

    Up to `VISIBLE_FROM` it is fully transparent; what is not a number counts as zero.
    """
    known = np.clip(np.nan_to_num(np.asarray(probability, np.float32), nan=0.0), 0, 1)
    steps = (known * (STEPS - 1) + 0.5).astype(np.uint8)
    return np.take(_translucent(colour), steps, axis=0)


@cache
def _translucent(colour: Colour) -> NDArray[np.uint8]:
    """Return the scale (256, 4) RGBA; the step that `VISIBLE_FROM` itself falls on is still transparent."""
    steps = np.arange(STEPS)
    alpha = np.clip((steps / (STEPS - 1) - VISIBLE_FROM) / (OPAQUE_FROM - VISIBLE_FROM), 0, 1) * STRONGEST_ALPHA
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
