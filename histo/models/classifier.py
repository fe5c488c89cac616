"""The network: a fully convolutional trunk and a 1x1 head that scores every cell of a tile."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from histo.models.backbones import build_trunk


class TileClassifier(nn.Module):
    """Turns tiles (B, 3, S, S) uint8 RGB into score maps (B, C, S / stride, S / stride) of class logits.

    Global average pooling and a linear layer commute, so the mean over the map is exactly the logit that an
    ordinary tile classifier with the same weights would give (Zhou et al. 2016, class activation mapping).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        classes: int,
        stride_px: int,
        mean: Sequence[float],
        std: Sequence[float],
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.trunk, channels = build_trunk(backbone, stride_px, pretrained)
        self.dropout = nn.Dropout2d(0.1)
        self.head = nn.Conv2d(channels, classes, kernel_size=1)
        # Normalisation is the card's, not a learnt weight: kept out of the state.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return the score maps (B, C, h, w) of uint8 tiles (B, 3, S, S)."""
        x = (tiles.to(self.mean.dtype) - self.mean) / self.std
        scores: Tensor = self.head(self.dropout(self.trunk(x)))
        return scores
