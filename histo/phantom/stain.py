"""From stain amounts to pixels: Beer-Lambert per channel, blur, sharpening, sensor noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.phantom.canvas import Canvas
from histo.phantom.noise import F32, hashed
from histo.phantom.recipe import Stain

HALO_PX = 44  # how far both blurs and sharpening together reach, in level-0 pixels


def develop(canvas: Canvas, thickness: F32, stain: Stain, mpp: float, seed: int) -> NDArray[np.uint8]:
    """Return the chunk's RGB pixels (h, w, 3), border included."""
    h = (canvas.h + canvas.n) * (thickness * np.float32(stain.gain_h))
    e = canvas.e * (thickness * np.float32(stain.gain_e))
    if stain.gamma != 1.0:
        h, e = (np.asarray(cv2.pow(np.maximum(m, 0), stain.gamma), np.float32) for m in (h, e))
    # Unit vectors have a per-channel sum near 1.7: scale so that an amount of 1 is a well-stained nucleus.
    light = np.empty((*h.shape, 3), np.float32)
    for k in range(3):
        od = h * np.float32(1.6 * stain.haematoxylin[k])
        od += e * np.float32(1.15 * stain.eosin[k])
        if canvas.ink is not None:
            od += canvas.ink[:, :, k]
        light[:, :, k] = cv2.exp(-od) * np.float32(stain.white[k])
    sigma = min(4.0, stain.psf_um / mpp)
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32) if sigma > 0.2 else light
    if canvas.defocus is not None:
        blurred = cv2.GaussianBlur(light, (0, 0), min(5.0, 2.0 / mpp))
        light += canvas.defocus[:, :, None] * (blurred - light)
    if stain.unsharp:
        light += np.float32(stain.unsharp) * (light - cv2.GaussianBlur(light, (0, 0), 1.0))
    y, x, height, width = canvas.window
    grain = hashed(seed, np.arange(y, y + height), np.arange(x, x + width))
    grain -= np.float32(0.5)
    grain *= np.float32(3.46 * stain.sensor_noise)
    light += grain[:, :, None]
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)
