"""A light residual network for two CPU cores: plain 3 x 3 convolutions, the resolution falling early.

He et al. 2016 (residual blocks), with half of ResNet-18's width and a stem of two strided convolutions. A 512 px tile
costs 1.8 thousand million multiplications up to stride 16, a quarter of ResNet-18. No squeeze-and-excitation: a cell's
score does not depend on where its tile begins.
"""

from torch import Tensor, nn

from histo.errors import UsageError

WIDTHS = (16, 32, 64, 128, 192)  # channels at strides 2, 4, 8, 16, 32
DEPTHS = (0, 1, 2, 2, 1)  # residual blocks at each


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 3, 1)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) of the same shape."""
        return nn.functional.relu(x + self.second(self.first(x)), inplace=True)


class Compact(nn.Module):
    """The network as five stages of stride 2 each; it has no head of its own.

    Raises `UsageError` when ImageNet weights are asked for: nobody has trained it on photographs.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        if weights is not None:
            raise UsageError("the backbone compact has no ImageNet weights; take another network.start than imagenet")
        stages, inputs = [], 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            side = 5 if inputs == 3 else 3
            stages.append(nn.Sequential(_convolution(inputs, width, side, 2), *(Residual(width) for _ in range(depth))))
            inputs = width
        self.stages = nn.ModuleList(stages)
