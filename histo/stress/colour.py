"""Disturbances of colour: stain gain and angle, another slide's stain, grey, hue, light, scanners, shuffling."""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.stress.picture import Picture, Rgb, basis_of, remix

Rng = np.random.Generator
SHUFFLE_UM: Final = 112.0  # a tile of 224 px at 0.5 µm
SCANNERS: Final = {
    # Blur (µm), sharpening, gamma, and a matrix on RGB: a crisp and saturated scanner, a soft and cool one.
    "B": (0.25, 0.8, 0.92, ((1.12, -0.07, -0.05), (-0.05, 1.10, -0.05), (-0.04, -0.08, 1.12))),
    "C": (0.75, 0.0, 1.10, ((0.90, 0.06, 0.02), (0.04, 0.92, 0.05), (0.05, 0.05, 0.93))),
}


def stain_gain(picture: Picture, rng: Rng, *, stain: str, gain: float) -> Picture:
    """Multiply the amount of one stain, `haematoxylin` or `eosin`, in optical density."""
    gains = np.ones(3)
    gains[("haematoxylin", "eosin").index(stain)] = gain
    own = picture.basis
    return replace(picture, rgb=remix(picture, np.linalg.inv(own) @ np.diag(gains) @ own))


def stain_angle(picture: Picture, rng: Rng, *, degrees: float) -> Picture:
    """Turn the direction of both stains by an angle, each its own way; amounts stay."""
    own = picture.basis
    turned = [tilted(own[k], degrees, rng) for k in (0, 1)]
    return replace(picture, rgb=remix(picture, np.linalg.inv(own) @ basis_of(tuple(turned[0]), tuple(turned[1]))))


def tilted(vector: NDArray[np.float64], degrees: float, rng: Rng) -> NDArray[np.float64]:
    """Return a unit vector `degrees` away in a random direction; of sixteen, one that absorbs in all channels."""
    best = vector
    for _ in range(16):
        side = rng.normal(size=3)
        side -= vector * (side @ vector)
        side /= np.linalg.norm(side)
        best = vector * np.cos(np.radians(degrees)) + side * np.sin(np.radians(degrees))
        if best.min() > 0.02:
            break
    return np.asarray(best)


def stain_swap(picture: Picture, rng: Rng, *, haematoxylin: tuple[float, ...], eosin: tuple[float, ...]) -> Picture:
    """Give the slide the stain directions of another slide; amounts stay."""
    return replace(picture, rgb=remix(picture, np.linalg.inv(picture.basis) @ basis_of(haematoxylin, eosin)))


def gray(picture: Picture, rng: Rng) -> Picture:
    """Keep the luminance alone."""
    level = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY)
    return replace(picture, rgb=np.repeat(level[..., None], 3, axis=2))


def colour_only(picture: Picture, rng: Rng) -> Picture:
    """Shuffle all pixels within each tile of 112 µm: colours stay, shapes go."""
    side = max(1, round(picture.px(SHUFFLE_UM)))
    out = picture.rgb.copy()
    for y in range(0, out.shape[0], side):
        for x in range(0, out.shape[1], side):
            tile = out[y : y + side, x : x + side]
            out[y : y + side, x : x + side] = rng.permutation(tile.reshape(-1, 3)).reshape(tile.shape)
    return replace(picture, rgb=out)


def hue_rotate(picture: Picture, rng: Rng, *, degrees: float) -> Picture:
    """Turn the hue of every pixel."""
    hsv = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + round(degrees / 2)) % 180  # OpenCV counts hue in steps of 2 degrees
    return replace(picture, rgb=np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8))


def exposure(
    picture: Picture, rng: Rng, *, red: float = 1.0, green: float = 1.0, blue: float = 1.0, gamma: float = 1.0
) -> Picture:
    """Multiply the light of the channels, then raise it to a power."""
    return replace(picture, rgb=_through(picture.rgb, (red, green, blue), gamma))


def _through(rgb: Rgb, factors: tuple[float, float, float], gamma: float) -> Rgb:
    level = np.arange(256, dtype=np.float64)[:, None] * np.asarray(factors)
    table = np.clip(255 * np.clip(level / 255, 0, 1) ** gamma + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, table[None]), np.uint8)


def scanner(picture: Picture, rng: Rng, *, name: str) -> Picture:
    """Scan the slide as another scanner would: blur of its optics, colour matrix, gamma, sharpening."""
    blur_um, sharpen, gamma, matrix = SCANNERS[name]
    rgb = cv2.GaussianBlur(picture.rgb, (0, 0), max(0.2, picture.px(blur_um)))
    rgb = np.clip(cv2.transform(rgb.astype(np.float32), np.asarray(matrix, np.float32)), 0, 255)
    if sharpen:
        rgb = np.clip(rgb + sharpen * (rgb - cv2.GaussianBlur(rgb, (0, 0), 1.0)), 0, 255)
    return replace(picture, rgb=_through((rgb + 0.5).astype(np.uint8), (1.0, 1.0, 1.0), gamma))
