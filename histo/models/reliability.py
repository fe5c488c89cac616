"""How well probabilities agree with what was there: bins, Brier score, calibration error above chance, slope."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from histo.models.slide_scores import Bin, Reliability
from histo.statistics import CALIBRATION_BINS, calibration_bin, calibration_errors, chance_errors

SIMULATIONS = 1000
SUREST = 1e-6
RIDGE = 0.01  # keeps slope and intercept finite where the classes are told apart without an error


def measure_reliability(probability: NDArray[np.float64], present: NDArray[np.bool_]) -> Reliability:
    """Measure probabilities (N,) of a class against its presence (N,) on N independent slides; N at least 1.

    The floor of the expected calibration error is its mean over simulated truths for which the probabilities are
    perfect.
    """
    error = float(calibration_errors(probability, present[None])[0])
    floor = float(chance_errors(probability, SIMULATIONS, seed=0).mean())
    slope, intercept = slope_and_intercept(probability, present)
    return Reliability(
        slides=len(probability),
        brier=float(np.mean((probability - present) ** 2)),
        ece=error,
        ece_floor=floor,
        ece_debiased=max(0.0, error - floor),
        slope=slope,
        intercept=intercept,
        bins=bins_of(probability, present),
    )


def bins_of(probability: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return equal bins from 0 to 1 with what lies in each."""
    edges, number = np.linspace(0, 1, CALIBRATION_BINS + 1), calibration_bin(probability)
    return tuple(
        Bin(
            low=round(float(low), 6),
            high=round(float(high), 6),
            slides=int(inside.sum()),
            mean_probability=float(probability[inside].mean()) if inside.any() else None,
            share_present=float(present[inside].mean()) if inside.any() else None,
        )
        for low, high, inside in zip(edges[:-1], edges[1:], (number == b for b in range(CALIBRATION_BINS)), strict=True)
    )


def slope_and_intercept(probability: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of a logistic regression of what was there on the log-odds (Cox 1958)."""
    x = logit(np.clip(probability, SUREST, 1 - SUREST))
    sign = np.where(present, 1.0, -1.0)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = sign * (w[0] * x + w[1])
        pull = -sign * expit(-z)
        value = np.logaddexp(0, -z).sum() + RIDGE / 2 * ((w[0] - 1) ** 2 + w[1] ** 2)
        return float(value), np.array([(pull * x).sum() + RIDGE * (w[0] - 1), pull.sum() + RIDGE * w[1]])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(found[0]), float(found[1])
