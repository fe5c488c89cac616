"""The score map and the tile logit are the same numbers: pooling and a linear layer commute."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from histo.models import backbones
from histo.models.classifier import TileClassifier

REAL = sorted(backbones.BACKBONES)  # read before the tests register their own
MEAN, STD = (0.8, 0.65, 0.77), (0.18, 0.24, 0.18)


def pictures(count: int = 2, side: int = 64) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("name", REAL)
def test_the_mean_of_the_map_is_the_logit_of_an_ordinary_classifier(
    name: str, network_of: Callable[[str], TileClassifier]
) -> None:
    network = network_of(name)
    tiles = pictures()
    with torch.inference_mode():
        # By hand, with the conftest's mean and standard deviation.
        x = (tiles.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        pooled = F.adaptive_avg_pool2d(network.trunk(x), 1).flatten(1)
        ordinary = F.linear(pooled, network.head.weight[:, :, 0, 0], network.head.bias)
        score_map = network(tiles)
    logits = score_map.mean(dim=(2, 3))
    assert score_map.shape == (2, 3, 4, 4)
    assert torch.allclose(logits, ordinary, rtol=1e-3, atol=1e-4 * float(ordinary.abs().max()) + 1e-5)


def test_a_score_answers_for_its_own_place() -> None:
    network = TileClassifier("mean_colour", 2, 16, (0, 0, 0), (1, 1, 1)).eval()
    with torch.no_grad():
        network.head.weight.zero_()[1, 0] = 1
        network.head.bias.zero_()
    tile = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    tile[:, 0, 16:32, 48:64] = 255
    with torch.inference_mode():
        score_map = network(tile)[0]
    wanted = torch.zeros(4, 6)
    wanted[1, 3] = 1
    assert torch.allclose(score_map[1], wanted, atol=1e-6)


def test_normalisation_belongs_to_the_card_not_to_the_weights() -> None:
    network = TileClassifier("mean_colour", 2, 16, MEAN, STD)
    assert set(network.state_dict()) == {"head.weight", "head.bias"}
    assert network.mean.flatten().tolist() == pytest.approx([255 * m for m in MEAN])
    assert network.std.flatten().tolist() == pytest.approx([255 * s for s in STD])


def test_evaluation_is_deterministic_and_training_drops_channels() -> None:
    network = TileClassifier("resnet18", 3, 16, MEAN, STD)
    tiles = pictures(1, 64)
    with torch.inference_mode():
        assert torch.equal(network.eval()(tiles), network(tiles))
        assert not torch.equal(network.train()(tiles), network(tiles))


def test_a_tile_s_scores_do_not_depend_on_its_batch(network_of: Callable[[str], TileClassifier]) -> None:
    network = network_of("resnet18")
    tiles = pictures(3, 64)
    with torch.inference_mode():
        together = network(tiles)
        alone = torch.cat([network(t[None]) for t in tiles])
    assert torch.allclose(together, alone, atol=1e-4)
