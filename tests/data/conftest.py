"""Pyramids and pictures for the tests of reading."""

from collections.abc import Callable

import pytest

from histo.geometry import Pyramid

MakePyramid = Callable[..., Pyramid]


@pytest.fixture(scope="session")
def make_pyramid() -> MakePyramid:
    """Make a slide's geometry without a slide."""

    def make(
        size: tuple[int, int] = (2048, 1536), mpp: float = 0.5, bounds: tuple[int, int, int, int] | None = None
    ) -> Pyramid:
        return Pyramid(size, (1.0,), mpp, mpp, "recorded", bounds or (0, 0, *size))

    return make
