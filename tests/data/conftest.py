"""Pyramids and pictures for the tests of reading."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.geometry import Pyramid

Rgb = NDArray[np.uint8]

MakePyramid = Callable[..., Pyramid]


@pytest.fixture(scope="session")
def make_pyramid() -> MakePyramid:
    """Make a slide's geometry without a slide."""

    def make(
        size: tuple[int, int] = (2048, 1536), mpp: float = 0.5, bounds: tuple[int, int, int, int] | None = None
    ) -> Pyramid:
        return Pyramid(size, (1.0,), mpp, mpp, "recorded", bounds or (0, 0, *size))

    return make


@pytest.fixture(scope="session")
def paint_block() -> Callable[..., Rgb]:
    """Paint a block of tissue of its own shape and texture on glass, one for every seed."""

    def paint(seed: int, size: tuple[int, int] = (350, 275)) -> Rgb:
        rng = np.random.default_rng(seed)
        width, height = size
        tissue = np.zeros((height, width), np.uint8)
        centre = (width // 2 + int(rng.integers(-9, 10)), height // 2 + int(rng.integers(-9, 10)))
        axes = (int(width * rng.uniform(0.3, 0.42)), int(height * rng.uniform(0.3, 0.42)))
        cv2.ellipse(tissue, centre, axes, float(rng.uniform(0, 30)), 0, 360, 1, -1)
        small = rng.normal(0, 1, (22, 28)).astype(np.float32)
        texture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        fine = cv2.GaussianBlur(rng.normal(0, 14, (height, width)).astype(np.float32), (0, 0), 1)
        block = np.array((215, 165, 190)) + (22 * texture + fine)[..., None]
        return np.where(tissue[..., None] > 0, np.clip(block, 0, 235), 244).astype(np.uint8)

    return paint
