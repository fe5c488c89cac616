"""Painted slides opened for learning."""

from collections.abc import Callable
from typing import Any

import pytest

from histo.config import TrainConfig
from histo.data.manifest import read_manifest
from histo.data.sampling import LabelledSlide, open_labelled
from histo.models.bundle import SHIPPED, load_bundle


@pytest.fixture(scope="session")
def labelled(small_training: Callable[..., TrainConfig]) -> list[LabelledSlide]:
    """The nine slides of the painted cohort; by label normal, calcinosis, ossification in turn."""
    config = small_training()
    return [open_labelled(r, config) for r in read_manifest(config.data.manifest, config.classes.labels)]


@pytest.fixture
def shipped_config(small_training: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """Return a function: configurations with the shipped model's backbone, stride, scale and normalisation."""
    card = load_bundle(SHIPPED).card
    net: dict[str, Any] = {"start": "shipped", "backbone": card.network.backbone}
    net |= {"mean": list(card.network.mean), "std": list(card.network.std)}

    def make(*overrides: str, **network: Any) -> TrainConfig:
        return small_training(
            f"network={net | network}", f"tile={card.tile.model_dump(mode='json', exclude_none=True)}", *overrides
        )

    return make
