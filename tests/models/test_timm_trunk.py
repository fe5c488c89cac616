import builtins

import pytest
import torch

from histo.errors import UsageError
from histo.learning.start import freeze
from histo.models.backbones import build_trunk
from histo.models.classifier import TileClassifier


def test_an_encoder_of_timm_is_a_trunk_with_the_stride():
    trunk, channels = build_trunk("timm:mobilenetv3_small_050", 16)
    with torch.no_grad():
        assert trunk.eval()(torch.zeros(1, 3, 128, 128)).shape == (1, channels, 8, 8)
    network = TileClassifier("timm:mobilenetv3_small_050", 3, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).eval()
    tiles = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert network(tiles).shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("timm:mobilenetv3_smal", 16, r"timm knows no encoder 'mobilenetv3_smal'; near to it are mobilenetv3_small"),
        ("timm:", 16, "timm knows no encoder ''"),
        ("timm:mobilenetv3_small_050", 12, r"no stride of 12 px; it offers \[2, 4, 8, 16, 32\]"),
    ],
)
def test_what_timm_does_not_have_is_one_sentence(name, stride, message):
    with pytest.raises(UsageError, match=message):
        build_trunk(name, stride)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    def without(name, *rest):
        if name == "timm":
            raise ImportError(name)
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"needs timm, which is not installed; pip install timm"):
        build_trunk("timm:resnet18", 16)


def test_weights_that_cannot_be_fetched_are_one_sentence(monkeypatch):
    import timm

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return real(name, **options)

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UsageError, match=r"pretrained weights of timm:mobilenetv3_small_050 cannot be had \(no route"):
        build_trunk("timm:mobilenetv3_small_050", 16, pretrained=True)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "efficientnet_b0", "resnet10t"])
def test_all_but_the_last_block_of_an_encoder_of_timm_can_be_frozen(name, small_training):
    # Bug: the encoder was one block, so `early` froze nothing of it and said nothing.
    network = TileClassifier(f"timm:{name}", 3, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    freeze(network, small_training(f"network={{backbone: 'timm:{name}', freeze: early, start: imagenet}}"))
    weights = list(network.trunk.parameters())
    learns = sum(w.numel() for w in weights if w.requires_grad) / sum(w.numel() for w in weights)
    assert 0 < learns < 0.9
    freeze(network, small_training(f"network={{backbone: 'timm:{name}', freeze: trunk, start: imagenet}}"))
    assert not any(w.requires_grad for w in network.trunk.parameters())
