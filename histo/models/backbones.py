"""Backbones as fully convolutional trunks: a list of blocks that can be cut at a stride.

Add one: a function that returns its blocks, and a line in `BACKBONES`. Weights are random unless the user's
configuration asks for torchvision's ImageNet weights; nothing is ever downloaded without being asked for.
"""

from collections.abc import Callable
from urllib.error import URLError

import torch
import torchvision.models as tv
from torch import nn

from histo.errors import UsageError
from histo.models.compact import Compact
from histo.models.timm_trunk import PREFIX, build_timm_trunk

Blocks = list[nn.Module]

PROBE_PX = 256  # side of the picture that shows a backbone's strides


def _resnet(net: tv.ResNet) -> Blocks:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4]


def _shufflenet(net: tv.ShuffleNetV2) -> Blocks:
    return [net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5]


def _features(net: nn.Module) -> Blocks:
    return list(net.features.children())  # type: ignore[union-attr]  # torchvision is untyped here


def _compact(net: Compact) -> Blocks:
    return list(net.stages)


BACKBONES: dict[str, tuple[Callable[..., nn.Module], Callable[..., Blocks]]] = {
    "compact": (Compact, _compact),
    "resnet18": (tv.resnet18, _resnet),
    "resnet50": (tv.resnet50, _resnet),
    "shufflenet_v2_x1_0": (tv.shufflenet_v2_x1_0, _shufflenet),
    "mobilenet_v3_small": (tv.mobilenet_v3_small, _features),
    "mobilenet_v3_large": (tv.mobilenet_v3_large, _features),
    "efficientnet_b0": (tv.efficientnet_b0, _features),
    "convnext_tiny": (tv.convnext_tiny, _features),
}


def build_trunk(name: str, stride_px: int, pretrained: bool = False) -> tuple[nn.Sequential, int]:
    """Return the longest leading part of a backbone with the given stride, and its number of output channels.

    The trunk turns (B, 3, S, S) into (B, channels, S / stride, S / stride).
    Raises `UsageError` for an unknown name, an impossible stride, or weights that cannot be fetched.
    """
    if name.startswith(PREFIX):
        return build_timm_trunk(name, stride_px, pretrained, PROBE_PX)
    if name not in BACKBONES:
        raise UsageError(f"unknown backbone {name!r}; known are {', '.join(BACKBONES)}, and {PREFIX}NAME for timm's")
    try:
        make, blocks_of = BACKBONES[name]
        blocks = blocks_of(make(weights="DEFAULT" if pretrained else None))
    except (URLError, OSError, RuntimeError) as error:
        raise UsageError(
            f"the pretrained weights of {name} cannot be downloaded ({error}); take another network.start "
            "than imagenet, or start the training once on a machine with a network and copy its torchvision cache here"
        ) from error
    shapes = shapes_of(nn.Sequential(*blocks).eval())
    at_stride = [i for i, (side, _) in enumerate(shapes) if side * stride_px == PROBE_PX]
    if not at_stride:
        possible = sorted({PROBE_PX // side for side, _ in shapes if PROBE_PX % side == 0})
        raise UsageError(f"backbone {name} has no stride of {stride_px} px; it offers {possible}")
    last = at_stride[-1]
    return nn.Sequential(*blocks[: last + 1]).train(), shapes[last][1]


def shapes_of(trunk: nn.Sequential) -> list[tuple[int, int]]:
    """Return the side and the channels of every block's map of a picture of `PROBE_PX`; the trunk is to evaluate."""
    assert not trunk.training
    shapes, x = [], torch.zeros(1, 3, PROBE_PX, PROBE_PX)
    with torch.no_grad():
        for block in trunk:
            x = block(x)
            shapes.append((int(x.shape[-1]), int(x.shape[1])))
    return shapes
