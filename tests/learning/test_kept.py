import pytest
import torch

from histo.learning.kept import Kept, MovingAverage
from histo.learning.start import build_network
from histo.training_options import AveragingConfig


def test_the_moving_average_lags_behind(small_training):
    network = build_network(small_training()).network
    averaged = MovingAverage(network, 0.9)
    averaged.update_parameters(network)
    with torch.no_grad():
        network.head.bias += 1.0
    averaged.update_parameters(network)
    assert torch.allclose(averaged.module.head.bias, network.head.bias - 0.9, atol=1e-6)


def test_what_is_kept_lies_between_start_and_average(shipped_config):
    start = build_network(shipped_config())
    kept = Kept(start, AveragingConfig(ema=0.9, start_share=0.25))
    begun = {name: value.clone() for name, value in start.network.state_dict().items()}
    kept.follow(start.network)
    with torch.no_grad():
        start.network.head.bias += 1.0
        next(m for m in start.network.modules() if isinstance(m, torch.nn.BatchNorm2d)).running_mean += 2.0
    kept.follow(start.network)
    assert torch.equal(kept.settled(start.network).head.bias, begun["head.bias"])  # not settled yet
    kept.settle(start.network)
    found = kept.settled(start.network).state_dict()
    moved = {name: (found[name] - value).max().item() for name, value in begun.items()}
    assert moved["head.bias"] == pytest.approx(0.75 * 0.1, abs=1e-5)
    assert max(value for name, value in moved.items() if name.endswith("running_mean")) == pytest.approx(0.15, abs=1e-5)
    assert moved["head.weight"] == 0


def test_without_options_the_network_itself_is_kept(shipped_config):
    start = build_network(shipped_config())
    kept = Kept(start, AveragingConfig())
    kept.settle(start.network)
    assert kept.settled(start.network) is start.network


def test_a_new_head_is_not_drawn_back(small_training):
    start = build_network(small_training("averaging={start_share: 0.5}"))
    assert Kept(start, AveragingConfig(start_share=0.5)).settled(start.network) is start.network
    assert start.told.endswith("the head is new, so averaging.start_share is not used")
