"""Temperature scaling: one number that makes the probabilities of a network mean what they say.

Guo et al., On calibration of modern neural networks, ICML 2017; here with soft labels, over map cells.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Return the temperature that minimises the cross-entropy of `logits` (N, C) against soft `labels` (N, C).

    Fit it on cells of slides that the network was not trained on.
    """
    if len(logits) == 0:
        raise ValueError("no cells to fit a temperature on")

    def loss(log_temperature: float) -> float:
        return float(-(labels * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.25), np.log(8.0)), method="bounded")
    return float(np.exp(best.x))
