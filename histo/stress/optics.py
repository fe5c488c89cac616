"""Disturbances of sharpness, noise, coding, place and scale."""

from dataclasses import replace

import cv2
import numpy as np

from histo.geometry import round_px
from histo.stress.picture import Picture, glass_of

Rng = np.random.Generator


def clean(picture: Picture, rng: Rng) -> Picture:
    """Leave everything as it is."""
    return picture


def jpeg(picture: Picture, rng: Rng, *, quality: int) -> Picture:
    """Write the slide with another JPEG quality."""
    return replace(picture, quality=quality)


def blur(picture: Picture, rng: Rng, *, sigma_um: float) -> Picture:
    """Blur with a Gaussian whose standard deviation is given in µm."""
    return replace(picture, rgb=np.asarray(cv2.GaussianBlur(picture.rgb, (0, 0), picture.px(sigma_um)), np.uint8))


def noise(picture: Picture, rng: Rng, *, sigma: float) -> Picture:
    """Add Gaussian noise whose standard deviation is given in grey levels of 255, to every channel by itself."""
    grain = rng.standard_normal(picture.rgb.shape, np.float32) * np.float32(sigma)
    return replace(picture, rgb=np.clip(picture.rgb + grain + 0.5, 0, 255).astype(np.uint8))


def turn(picture: Picture, rng: Rng, *, quarters: int = 0, mirror: bool = False) -> Picture:
    """Turn the slide by quarters, or mirror it, and write it without loss: no pixel is changed."""
    rgb = np.rot90(picture.rgb, quarters)
    return replace(picture, rgb=np.ascontiguousarray(rgb[:, ::-1] if mirror else rgb), quality=None)


def rotate(picture: Picture, rng: Rng, *, degrees: float) -> Picture:
    """Turn the slide by any angle on a larger glass."""
    height, width = picture.rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    c, s = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(np.ceil(width * c + height * s)), int(np.ceil(width * s + height * c)))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    rgb = cv2.warpAffine(picture.rgb, matrix, size, flags=cv2.INTER_CUBIC, borderValue=glass_of(picture))
    return replace(picture, rgb=np.asarray(rgb, np.uint8))


def rescale(picture: Picture, rng: Rng, *, mpp: float) -> Picture:
    """Scan the slide at another scale, and record that scale."""
    factor = picture.mpp / mpp
    size = tuple(round_px(n * factor) for n in picture.rgb.shape[1::-1])
    way = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    rgb = np.asarray(cv2.resize(picture.rgb, size, interpolation=way), np.uint8)
    return replace(picture, rgb=rgb, mpp=mpp, recorded_mpp=mpp)


def wrong_scale(picture: Picture, rng: Rng, *, factor: float) -> Picture:
    """Record a scale that is wrong by a factor; the pixels stay."""
    return replace(picture, recorded_mpp=picture.mpp * factor)


def offset(picture: Picture, rng: Rng, *, um: float) -> Picture:
    """Move the slide to the right and down by adding glass before it, so that tiles are cut elsewhere."""
    px = round_px(picture.px(um))
    rgb = cv2.copyMakeBorder(picture.rgb, px, 0, px, 0, cv2.BORDER_CONSTANT, value=glass_of(picture))
    return replace(picture, rgb=np.asarray(rgb, np.uint8))
