"""What is left of a very dark or very pale slide once its stain is normalised: clipped shadows, coarse steps, noise.

A scanner keeps 8 bits of light. Where a slide is stained three times too darkly, calcium and nuclei are black in some
channels, and no gain brings back what lay there; on a pale slide normalisation stretches noise and JPEG blocks.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_GAIN = 3.0  # how much darker or paler than the tile the scanned slide is, channels alike
_CHANNEL_SD = 0.15  # of the log gain of one channel beside the others'
_MOST_NOISE = 2.5  # standard deviation, in levels of 8 bits
_QUALITY = (45, 96)  # of the JPEG, the last one excluded
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255)  # natural logarithm


def rescan(rgb: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Return a tile (H, W, 3) as it would be, stained up to `MOST_GAIN` times darker or paler, after normalisation."""
    rng = np.random.default_rng([seed, 1])
    most = np.log(MOST_GAIN)
    gains = np.exp(rng.uniform(-most, most) + rng.normal(0, _CHANNEL_SD, 3))
    light = 255 * np.exp(-_DENSITY[:, None] * gains)
    back = 255 * np.exp(-_DENSITY[:, None] / gains)
    scanned = np.asarray(cv2.LUT(rgb, light.astype(np.float32)[None]), np.float32)
    scanned += rng.standard_normal(scanned.shape, np.float32) * np.float32(rng.uniform(0, _MOST_NOISE))
    levels = np.clip(np.rint(scanned), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_QUALITY))]
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(levels, cv2.COLOR_RGB2BGR), quality)
    unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert unpacked is not None
    kept = cv2.cvtColor(unpacked, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.LUT(kept, np.rint(back).astype(np.uint8)[None]), np.uint8)
