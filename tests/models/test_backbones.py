"""Every backbone gives a trunk of the asked stride, or says which strides it has."""

from collections.abc import Callable
from urllib.error import URLError

import pytest
import torch
from torch import nn

from histo.errors import UsageError
from histo.models import backbones
from histo.models.backbones import build_trunk
from histo.models.classifier import TileClassifier

REAL = sorted(backbones.BACKBONES)  # read before the tests register their own


def check(trunk: nn.Module, channels: int, stride: int) -> None:
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 3, 128, 96)).shape == (1, channels, 128 // stride, 96 // stride)


@pytest.mark.parametrize("name", REAL)
def test_every_backbone_has_a_trunk_of_stride_16(name: str, network_of: Callable[[str], TileClassifier]) -> None:
    network = network_of(name)
    check(network.trunk, network.head.in_channels, 16)


@pytest.mark.parametrize("name", REAL)
def test_every_backbone_has_a_trunk_of_stride_32(name: str) -> None:
    trunk, channels = build_trunk(name, 32)
    assert trunk.training
    check(trunk.eval(), channels, 32)


@pytest.mark.parametrize(("name", "stride", "channels"), [("resnet18", 16, 256), ("mobilenet_v3_small", 32, 576)])
def test_a_trunk_is_the_longest_with_its_stride(name: str, stride: int, channels: int) -> None:
    assert build_trunk(name, stride)[1] == channels


def test_measuring_a_trunk_leaves_its_statistics_alone() -> None:
    trunk, _ = build_trunk("resnet18", 16)
    means = [m.running_mean for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    assert means
    assert not any(bool(mean.any()) for mean in means if mean is not None)


def test_weights_are_random_and_reproducible() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_trunk("mobilenet_v3_small", 16)[0].parameters()).detach()

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))


def test_an_unknown_backbone_is_a_usage_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"unknown backbone 'resnet19'; known are .*resnet18"):
        build_trunk("resnet19", 16)


@pytest.mark.parametrize("stride", [3, 64])
def test_an_impossible_stride_is_a_usage_error_that_names_the_possible(stride: int) -> None:
    with pytest.raises(UsageError, match=rf"resnet18 has no stride of {stride} px; it offers \[4, 8, 16, 32\]"):
        build_trunk("resnet18", stride)


def test_trying_a_stride_takes_no_more_memory_than_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stride comes from a card or a configuration; 16 times 2048 px would take all memory."""
    sides = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sides.append(x.shape[-1])
            return x[..., ::16, ::16]

    monkeypatch.setitem(backbones.BACKBONES, "spy", (lambda weights: Spy(), lambda net: [net]))
    with pytest.raises(UsageError):
        build_trunk("spy", 512)
    assert max(sides) <= 2048


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], list[str | None]]:
    """Let the constructor of resnet18 fail as a download does; return what weights it was asked for."""

    def register(error: Exception) -> list[str | None]:
        asked: list[str | None] = []

        def make(weights: str | None) -> nn.Module:
            asked.append(weights)
            raise error

        _, blocks = backbones.BACKBONES["resnet18"]
        monkeypatch.setitem(backbones.BACKBONES, "resnet18", (make, blocks))
        return asked

    return register


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
        RuntimeError('invalid hash value (expected "f37072fd", got "e3b0c442")'),  # a download that was cut short
    ],
    ids=["no-route", "reset", "timeout", "half-download"],
)
def test_pretrained_weights_without_a_network_are_a_usage_error(
    error: Exception, unreachable: Callable[[Exception], list[str | None]]
) -> None:
    asked = unreachable(error)
    with pytest.raises(
        UsageError, match=r"pretrained weights of resnet18 cannot be downloaded .*take another network.start"
    ):
        build_trunk("resnet18", 16, pretrained=True)
    assert asked == ["DEFAULT"]


def test_nothing_is_downloaded_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    for name in ("resnet18", "mobilenet_v3_small"):
        build_trunk(name, 16)
