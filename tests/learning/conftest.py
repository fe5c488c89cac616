"""Painted slides opened for learning."""

from collections.abc import Callable

import pytest

from histo.config import TrainConfig
from histo.data.manifest import read_manifest
from histo.data.sampling import LabelledSlide, open_labelled


@pytest.fixture(scope="session")
def labelled(small_training: Callable[..., TrainConfig]) -> list[LabelledSlide]:
    """The nine slides of the painted cohort; by label normal, calcinosis, ossification in turn."""
    config = small_training()
    return [open_labelled(r, config) for r in read_manifest(config.data.manifest, config.classes.labels)]
