"""Any encoder of timm as a trunk, cut at the stride: `backbone: timm:<name>`. timm is an optional extra.

timm downloads weights only when the configuration asks for them (`start: imagenet`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from histo.errors import UsageError

PREFIX = "timm:"


class _LastMap(nn.Module):
    """Hands on the one feature map (B, C, h, w) that a timm feature extractor was asked for."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = self.extractor(x)
        return maps[-1]


def build_timm_trunk(backbone: str, stride_px: int, pretrained: bool, probe_px: int) -> tuple[nn.Sequential, int]:
    """Return the part of a timm encoder up to its last map with the given stride, and that map's channels.

    Raises `UsageError` when timm is not installed, doesn't know the name, the encoder has no such stride, or its
    weights cannot be fetched.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"backbone {backbone} needs timm, which is not installed; pip install timm") from error
    name = backbone.removeprefix(PREFIX)
    if name not in timm.list_models():
        near = timm.list_models(f"*{name}*")[:5]
        hint = f"; near to it are {', '.join(near)}" if near else ""
        raise UsageError(f"timm knows no encoder {name!r}{hint}; timm.list_models() lists all")
    options: dict[str, Any] = {"dynamic_img_size": True} if name.startswith("vit_") else {}
    try:
        probe: Any = timm.create_model(name, features_only=True, **options)
        strides: list[int] = probe.feature_info.reduction()
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"timm's {name} offers no feature maps ({error}); choose a convolutional encoder") from error
    at_stride = [i for i, stride in enumerate(strides) if stride == stride_px]
    if not at_stride:
        raise UsageError(f"backbone {backbone} has no stride of {stride_px} px; it offers {sorted(set(strides))}")
    try:
        extractor = timm.create_model(
            name, features_only=True, out_indices=(at_stride[-1],), pretrained=pretrained, **options
        )
    except Exception as error:  # the download raises whatever the network library of the day does
        if not pretrained:
            raise
        raise UsageError(
            f"the pretrained weights of {backbone} cannot be had ({str(error)[:200]}); start from random weights, or "
            "run the training once on a machine with a network and copy its Hugging Face cache here"
        ) from error
    trunk = nn.Sequential(_LastMap(extractor))
    with torch.no_grad():
        channels = int(trunk.eval()(torch.zeros(1, 3, probe_px, probe_px)).shape[1])
    return trunk.train(), channels
