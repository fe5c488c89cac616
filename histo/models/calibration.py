"""Bias-corrected temperature scaling: makes the probabilities of a network mean what they say.

Guo et al., On calibration of modern neural networks, ICML 2017 (the temperature); Alexandari, Kundaje and Shrikumar,
ICML 2020 (an offset a class beside it). Here with soft labels, over map cells. A training that shows a network its own
mistakes again makes lesions more frequent than they are; the offsets take that back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

_SLOPES = (1 / 8, 4.0)  # of one over the temperature
_OFFSETS = (-3.0, 3.0)  # a factor of 20 in the odds


@dataclass(frozen=True, eq=False)
class Scaling:
    """Probability is the softmax of logits over `temperature` plus `offsets` (C,), which are 0 for the first class."""

    temperature: float
    offsets: NDArray[np.float64]

    def loss(self, logits: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
        """Return the mean cross-entropy of scaled `logits` (N, C) against soft `labels` (N, C)."""
        scaled = log_softmax(logits / self.temperature + self.offsets, axis=1)
        return float(-(labels * scaled).sum(axis=1).mean())


def fit_scaling(logits: NDArray[np.floating], labels: NDArray[np.floating], free: NDArray[np.bool_]) -> Scaling:
    """Return the scaling that minimises the cross-entropy of `logits` (N, C) against soft `labels` (N, C).

    Only the classes that `free` (C,) names get an offset, never the first. Fit it on cells of slides that the network
    was not trained on. Raises `ValueError` without cells.
    """
    if len(logits) == 0:
        raise ValueError("no cells to fit a temperature on")
    z, y = logits.astype(np.float64), labels.astype(np.float64)
    mass = y.sum(axis=1, keepdims=True)

    def loss_and_slope(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = log_softmax(parameters[0] * z + parameters[1:], axis=1)
        wrong = np.exp(scaled) * mass - y
        slope = np.concatenate([[(wrong * z).sum()], wrong.sum(axis=0)])
        return float(-(y * scaled).sum()) / len(z), slope / len(z)

    classes = z.shape[1]
    bounds = [_SLOPES, *(_OFFSETS if c > 0 and free[c] else (0.0, 0.0) for c in range(classes))]
    # Convex in these parameters.
    best = minimize(loss_and_slope, [1.0] + [0.0] * classes, jac=True, bounds=bounds, method="L-BFGS-B").x
    return Scaling(1 / float(best[0]), best[1:])
