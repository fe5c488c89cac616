"""Temperature scaling: one number that makes the probabilities of a network mean what they say.

Guo et al., On calibration of modern neural networks, ICML 2017; here with soft labels, over map cells. With offsets it
is bias-corrected temperature scaling, Alexandari, Kundaje and Shrikumar, ICML 2020: what a network could do whatever
share of lesions it expects.
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


def fit_scaling(logits: NDArray[np.floating], labels: NDArray[np.floating], with_offsets: bool = False) -> Scaling:
    """Return the scaling that minimises the cross-entropy of `logits` (N, C) against soft `labels` (N, C).

    Fit it on cells of slides that the network was not trained on. Raises `ValueError` without cells.
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
    bounds = [_SLOPES, (0.0, 0.0), *[_OFFSETS if with_offsets else (0.0, 0.0)] * (classes - 1)]
    # Convex in these parameters.
    best = minimize(loss_and_slope, [1.0] + [0.0] * classes, jac=True, bounds=bounds, method="L-BFGS-B").x
    return Scaling(1 / float(best[0]), best[1:])
