"""What is kept of the weights of a training: a moving average, drawn back to where it started."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from histo.learning.start import Start
from histo.models.classifier import TileClassifier
from histo.training_options import AveragingConfig


class Kept(nn.Module):
    """What of a training is validated and kept: its network, or a moving average of that, drawn back to the start.

    `ema` of the options is the decay of the average a step, `start_share` the share of the start in weights and
    BatchNorm statistics (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022): few slides teach much
    that holds for them alone. A start whose head is new has no share.
    """

    def __init__(self, start: Start, options: AveragingConfig) -> None:
        super().__init__()
        self._averaged = MovingAverage(start.network, options.ema) if options.ema else None
        self._share = options.start_share if start.knows_classes else 0.0
        self._start = _still(start.network) if self._share else None
        self._between = _still(start.network) if self._share else None

    def follow(self, network: TileClassifier) -> None:
        """Take note of a step of the network."""
        if self._averaged is not None:
            self._averaged.update_parameters(network)

    def settle(self, network: TileClassifier) -> None:
        """Draw what the network has learnt back to the start."""
        if self._start is None or self._between is None:
            return
        begun, learnt = self._start.state_dict(), self._followed(network).state_dict()
        self._between.load_state_dict({name: _mixed(v, begun[name], self._share) for name, v in learnt.items()})

    def settled(self, network: TileClassifier) -> TileClassifier:
        """Return the network to validate and keep, as it was settled last."""
        return self._followed(network) if self._between is None else self._between

    def _followed(self, network: TileClassifier) -> TileClassifier:
        return network if self._averaged is None else self._averaged.module


def _still(network: TileClassifier) -> TileClassifier:
    return copy.deepcopy(network).requires_grad_(False)


def _mixed(value: Tensor, other: Tensor, share: float) -> Tensor:
    """Return a value with a share of another; of BatchNorm's counts of steps, which cannot be mixed, the other."""
    return torch.lerp(value, other, share) if value.is_floating_point() else other


class MovingAverage(AveragedModel):
    """A copy of a network that follows it: weights and BatchNorm statistics, decayed by `decay` a step."""

    module: TileClassifier

    def __init__(self, network: TileClassifier, decay: float) -> None:
        def follow(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
            for average, value in zip(averages, values, strict=True):
                average.copy_(_mixed(average, value, 1 - decay))

        super().__init__(network, multi_avg_fn=follow, use_buffers=True)
        self.requires_grad_(False)
