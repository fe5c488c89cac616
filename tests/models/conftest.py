"""Small slide maps for the step to a verdict, and one network of every backbone."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from histo.geometry import MapGrid, Pyramid
from histo.models.classifier import TileClassifier
from histo.results import SlideMap

MakeMap = Callable[..., tuple[SlideMap, Pyramid]]
NetworkOf = Callable[[str], TileClassifier]
MEAN, STD = (0.8, 0.65, 0.77), (0.18, 0.24, 0.18)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are so small that torch's threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network_of() -> NetworkOf:
    """Return a classifier of three classes with a backbone at stride 16, in evaluation mode, made once."""

    @cache
    def make(name: str) -> TileClassifier:
        return TileClassifier(name, 3, 16, MEAN, STD).eval()

    return make


@pytest.fixture(scope="session")
def make_map() -> MakeMap:
    """Make a map of 16 µm cells from blocks (top, left, height, width, probability) of bone and of calcium."""

    def make(
        bone: tuple[tuple[int, int, int, int, float], ...] = (),
        calcium: tuple[tuple[int, int, int, int, float], ...] = (),
        shape: tuple[int, int] = (60, 80),
        bounds: tuple[int, int] = (0, 0),
        mpp: tuple[float, float] = (0.5, 0.5),
        changes: Mapping[str, NDArray] | None = None,
    ) -> tuple[SlideMap, Pyramid]:
        cell = 16 / mpp[0], 16 / mpp[1]
        size = round(shape[1] * cell[0]), round(shape[0] * cell[1])
        pyramid = Pyramid((size[0] + bounds[0], size[1] + bounds[1]), (1.0,), *mpp, "recorded", (*bounds, *size))
        probability = np.zeros((3, *shape), np.float16)
        for channel, blocks in ((1, bone), (2, calcium)):
            for top, left, height, width, p in blocks:
                probability[channel, top : top + height, left : left + width] = p
        probability[0] = np.clip(1 - probability[1:].sum(axis=0), 0, 1)
        parts = {
            "tissue": np.ones(shape, np.float32),
            "excluded": np.zeros(shape, np.float32),
            "valid": np.ones(shape, bool),
        } | dict(changes or {})
        grid = MapGrid((float(bounds[0]), float(bounds[1])), cell, shape, (16.0, 16.0))
        return SlideMap(probability, grid=grid, **parts), pyramid

    return make
