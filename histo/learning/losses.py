"""Losses of score maps: against class fractions per cell, and of pooled bags against a slide's label.

Generalised cross-entropy (1 - p^q) / q: Zhang and Sabuncu, NeurIPS 2018; wrong labels pull less than in the usual one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from histo.config import TrainConfig
from histo.learning.presence import Presence
from histo.training_options import LossConfig, WeakConfig

LEAST = 1e-6


def cell_loss(
    logits: Tensor,
    fractions: Tensor,
    weights: Tensor,
    config: LossConfig | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss of logits (B, C, h, w) against soft labels (B, C, h, w), averaged with weights (B, h, w).

    Without a configuration the cross-entropy. `class_weights` (C,) weighs each cell by the classes it holds.
    """
    config = config or LossConfig()
    classes = logits.shape[1]
    wanted = fractions * (1 - config.label_smoothing) + config.label_smoothing / classes
    loss = (wanted * _penalty(logits.log_softmax(dim=1), config)).sum(dim=1)
    if class_weights is not None:
        weights = weights * torch.einsum("bchw,c->bhw", fractions, class_weights.to(fractions))
    return (loss * weights).sum() / weights.sum().clamp(min=LEAST)


def _penalty(log_probability: Tensor, config: LossConfig) -> Tensor:
    if config.kind == "cross_entropy":
        return -log_probability
    return (1 - (config.q * log_probability).exp()) / config.q


def log_odds(logits: Tensor, group: Sequence[int]) -> Tensor:
    """Return the log-odds (B, h, w) that a cell belongs to one of the classes `group` and not to another."""
    inside = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    inside[list(group)] = True
    return logits[:, inside].logsumexp(dim=1) - logits[:, ~inside].logsumexp(dim=1)


def _log_sum_exp(scores: Tensor, weights: Tensor, config: WeakConfig) -> Tensor:
    """Smooth maximum, Pinheiro and Collobert, CVPR 2015: `sharpness` goes from the mean (0) to the maximum."""
    share = weights / weights.sum().clamp(min=LEAST)
    inside = share > 0
    return (config.sharpness * scores[inside] + share[inside].log()).logsumexp(dim=0) / config.sharpness


def _mean(scores: Tensor, weights: Tensor, config: WeakConfig) -> Tensor:
    return (scores * weights).sum() / weights.sum().clamp(min=LEAST)


def _top_k(scores: Tensor, weights: Tensor, config: WeakConfig) -> Tensor:
    inside = scores[weights > 0.5] if bool((weights > 0.5).any()) else scores[weights > 0]
    return inside.topk(min(config.top_k, len(inside))).values.mean()


POOLS: dict[str, Callable[[Tensor, Tensor, WeakConfig], Tensor]] = {
    "log_sum_exp": _log_sum_exp,
    "mean": _mean,
    "top_k": _top_k,
}


def bag_loss(logits: Tensor, tissue: Tensor, presence: Presence, weak: WeakConfig, config: LossConfig) -> Tensor:
    """Loss of one bag: logits (K, C, h, w) of tiles of one slide, pooled over the cells with `tissue` (K, h, w).

    Each question that the slide's label answers costs the binary loss of its pooled log-odds; they are averaged. A bag
    without tissue costs nothing.
    """
    questions = presence.questions
    if not questions or not bool((tissue > 0).any()):
        return logits.sum() * 0
    total = logits.new_zeros(())
    for group, answer in questions:
        pooled = POOLS[weak.pool](log_odds(logits, group).flatten(), tissue.flatten(), weak)
        wanted = answer * (1 - config.label_smoothing) + config.label_smoothing / 2
        both = torch.stack([logsigmoid(pooled), logsigmoid(-pooled)])
        total = total + (_penalty(both, config) * both.new_tensor([wanted, 1 - wanted])).sum()
    return total / len(questions)


def class_weights(area_cells: Sequence[float], config: TrainConfig) -> Tensor | None:
    """Return weights (C,) with mean 1 by the cells of each class that an epoch shows; None when `loss.balance` is 0."""
    if config.loss.balance == 0:
        return None
    area = torch.tensor(area_cells, dtype=torch.float32)
    seen = area > 0
    weights = torch.where(seen, area.clamp(min=1) ** -config.loss.balance, 0)
    return weights * seen.sum() / weights.sum()
