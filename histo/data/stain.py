"""Augmentation in optical-density space, where stains add up: gains, hues and grain that no two laboratories share."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

HAEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062])  # its optical density in red, green and blue (Macenko et al. 2009)
# With that of eosin, and of what is left, as rows.
_STAINS = np.array([HAEMATOXYLIN, [0.2159, 0.8012, 0.5581], [0.7, -0.45, 0.55]])
_TO_STAINS = np.linalg.inv(_STAINS)
_DENSITY = (-np.log((np.arange(256) + 1) / 256)).astype(np.float32)

GRAIN_SCALES_PX = (1.2, 2.5, 5.0, 10.0)
_GRAIN_SIDE_PX = 1024


def jitter_stain(rgb: NDArray[np.uint8], strength: float, grain: float, seed: int) -> NDArray[np.uint8]:
    """Scale haematoxylin, eosin and the rest of a tile (H, W, 3) independently, and lay a random grain over them.

    Tellez et al. 2019 (HED jitter). `strength` is the standard deviation of the logarithm of the two stains' gain,
    and a fifth of it that of the direction of a stain. `grain` is the standard deviation of the amplitude of
    band-limited noise that multiplies optical density: glass stays glass, and tissue is rougher than any phantom.
    """
    if strength == 0 and grain == 0:
        return rgb
    rng = np.random.default_rng(seed)
    gains = np.exp(rng.normal(0, strength, 3) * (1, 1, 0.5))
    shifts = rng.normal(0, strength / 10, 3) * (1, 1, 0.5)
    turned = _STAINS + rng.normal(0, strength / 5, (3, 3)) * np.array([[1.0], [1.0], [0.0]])
    mixing = (_TO_STAINS * gains) @ turned
    density = np.asarray(cv2.LUT(rgb, _DENSITY), np.float32)
    if grain:
        density *= _grain(rng, grain, rgb.shape[:2])[..., None]
    # cv2.transform multiplies columns, and its fourth column is added.
    matrix = np.concatenate([mixing.T, (shifts @ _STAINS)[:, None]], axis=1).astype(np.float32)
    light = np.asarray(cv2.exp(-cv2.transform(density, matrix)), np.float32)
    light *= 256
    light -= 0.5
    return np.clip(light, 0, 255, out=light).astype(np.uint8)


def _grain(rng: np.random.Generator, strength: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return factors around 1: noise of one scale, cut anywhere from a field that repeats without a seam."""
    field = _fields()[int(rng.integers(len(GRAIN_SCALES_PX)))]
    amplitude = abs(float(rng.normal(0, strength)))
    down, right = rng.integers(_GRAIN_SIDE_PX, size=2)
    rows = (int(down) + np.arange(shape[0])) % _GRAIN_SIDE_PX
    columns = (int(right) + np.arange(shape[1])) % _GRAIN_SIDE_PX
    cut = field.take(rows, axis=0).take(columns, axis=1)
    cut *= amplitude
    cut += 1
    return np.maximum(cut, 0.1, out=cut)


@cache
def _fields() -> list[NDArray[np.float32]]:
    """Return one field (S, S) of unit variance a scale: the difference of two blurs of white noise, periodic."""
    rng = np.random.default_rng(0)
    fields = []
    for scale in GRAIN_SCALES_PX:
        spectrum = np.fft.rfft2(rng.normal(size=(_GRAIN_SIDE_PX, _GRAIN_SIDE_PX)))
        y = np.fft.fftfreq(_GRAIN_SIDE_PX)[:, None]
        x = np.fft.rfftfreq(_GRAIN_SIDE_PX)[None, :]
        turn = -2 * (np.pi * scale) ** 2 * (x * x + y * y)
        field = np.fft.irfft2(spectrum * (np.exp(turn) - np.exp(4 * turn)))
        fields.append((field / field.std()).astype(np.float32))
    return fields
