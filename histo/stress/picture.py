"""A slide's pixels in memory while they are disturbed, and the arithmetic of optical density that the tests share."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.phantom.recipe import Stain

Rgb = NDArray[np.uint8]
F32 = NDArray[np.float32]
GLASS: Final = 243
TISSUE_OD: Final = 0.1  # green, natural logarithm


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (H, W, 3), true and recorded µm per pixel, the slide's stain, the JPEG quality to write with.

    Without a quality it is written exactly.
    """

    rgb: Rgb
    mpp: float
    stain: Stain
    recorded_mpp: float
    quality: int | None = 95

    @property
    def basis(self) -> NDArray[np.float64]:
        """The slide's own stain directions as rows: haematoxylin, eosin, what is left."""
        return basis_of(self.stain.haematoxylin, self.stain.eosin)

    def px(self, um: float) -> float:
        """Return a length in µm in pixels."""
        return um / self.mpp


def basis_of(haematoxylin: tuple[float, ...], eosin: tuple[float, ...]) -> NDArray[np.float64]:
    """Return unit directions in optical density (3, 3); the third stands upright on the two stains."""
    h, e = (np.asarray(v, float) / np.linalg.norm(v) for v in (haematoxylin, eosin))
    rest = np.cross(h, e)
    return np.stack([h, e, rest / np.linalg.norm(rest)])


def density(rgb: Rgb, white: tuple[float, float, float]) -> F32:
    """Return optical density (H, W, 3), natural logarithm, against the slide's white; negative where it is brighter."""
    values = np.maximum(np.arange(256, dtype=np.float64), 1)[:, None]
    table = (np.log(np.asarray(white)) - np.log(values)).astype(np.float32)
    return np.asarray(cv2.LUT(rgb, table[None]), np.float32)


def light(od: F32, white: tuple[float, float, float]) -> Rgb:
    """Return the pixels of an optical density."""
    bright = cv2.exp(-od) * np.asarray(white, np.float32)
    return np.asarray(np.clip(bright + 0.5, 0, 255), np.uint8)


def remix(picture: Picture, matrix: NDArray[np.float64]) -> Rgb:
    """Return the pixels whose optical density is that of the picture times a matrix (3, 3), rows to rows."""
    od = density(picture.rgb, picture.stain.white)
    return light(np.asarray(cv2.transform(od, matrix.T.astype(np.float32)), np.float32), picture.stain.white)


def tissue_of(picture: Picture) -> NDArray[np.bool_]:
    """Return where the tissue is (H, W): green optical density over a few µm, closed over gaps of 20 µm."""
    small = cv2.resize(picture.rgb, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    dense = (density(np.asarray(small, np.uint8), picture.stain.white)[..., 1] > TISSUE_OD).astype(np.uint8)
    side = 2 * max(1, round(picture.px(20) / 8)) + 1
    closed = cv2.morphologyEx(dense, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    height, width = picture.rgb.shape[:2]
    return cv2.resize(closed, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def glass_of(picture: Picture) -> tuple[float, float, float]:
    """Return the colour of the slide's own glass: the median of what is brightest, or a usual one."""
    sample = picture.rgb[::16, ::16].reshape(-1, 3)
    bright = sample[sample.min(axis=1) >= 215]
    red, green, blue = np.median(bright, axis=0) if len(bright) else (GLASS, GLASS, GLASS)
    return float(red), float(green), float(blue)
