"""Logistic regression on one variable: the slope of a calibration, the curve of detection by size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

_ROUNDS = 60
_FAR = 200.0  # beyond this slope the data separate, and no curve is the likeliest


@dataclass(frozen=True)
class Curve:
    """P = 1 / (1 + exp(-(intercept + slope x))) with the standard error of the slope (Wald)."""

    intercept: float
    slope: float
    slope_error: float

    def at(self, probability: float) -> float | None:
        """Return the x at which the curve reaches a probability; None for a curve that does not rise."""
        if self.slope <= 0:
            return None
        return float((np.log(probability / (1 - probability)) - self.intercept) / self.slope)


def fit_curve(x: NDArray[np.floating], y: NDArray[np.bool_]) -> Curve | None:
    """Return the likeliest curve for outcomes y (N,) at x (N,); None where x separates them, or nothing varies.

    They are separate too where both outcomes share one x: then no finite curve is the likeliest (Albert and Anderson
    1984).
    """
    if not len(x) or y.all() or not y.any() or np.ptp(x) == 0:
        return None
    if x[~y].max() <= x[y].min() or x[y].max() <= x[~y].min():
        return None
    middle, spread = float(np.mean(x)), float(np.std(x))
    design = np.stack([np.ones(len(x)), (np.asarray(x, float) - middle) / spread], axis=1)
    found = np.zeros(2)
    for _ in range(_ROUNDS):
        p = expit(design @ found)
        information = design.T @ (design * (p * (1 - p))[:, None])
        try:
            step = np.linalg.solve(information, design.T @ (y - p))
        except np.linalg.LinAlgError:
            return None
        found = found + step * min(1.0, 5.0 / float(np.abs(step).max() + 1e-12))
        if abs(found[1]) > _FAR:
            return None
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None
    to_plain = np.array([[1.0, -middle / spread], [0.0, 1 / spread]])
    try:
        errors = np.sqrt(np.diag(to_plain @ np.linalg.inv(information) @ to_plain.T))
    except np.linalg.LinAlgError:
        return None
    intercept, slope = to_plain @ found
    return Curve(float(intercept), float(slope), float(errors[1]))


def fit_shift(offset: NDArray[np.floating], y: NDArray[np.bool_]) -> float | None:
    """Return the constant that, added to the logits `offset` (N,), makes their mean probability the share of y."""
    if not len(y) or y.all() or not y.any():
        return None
    low, high = -50.0, 50.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(offset + middle).mean() < y.mean() else (low, middle)
    return (low + high) / 2
