"""Whether probabilities mean what they say: reliability, debiased calibration error, Brier score, slope."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.intervals import share
from histo.evaluation.logistic import fit_curve, fit_shift
from histo.statistics import CALIBRATION_BINS, calibration_bin, calibration_errors, chance_errors

_FLOOR_ROUNDS = 2000
_EDGE = 1e-6  # a probability of 0 or 1 has no logit


def reliability(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return per bin of equal width: mean probability, and the share that happened with its interval."""
    bins = calibration_bin(probability)
    return [
        {
            "mean": float(probability[bins == b].mean()),
            "low_edge": b / CALIBRATION_BINS,
            "high_edge": (b + 1) / CALIBRATION_BINS,
        }
        | {"share": share(int(happened[bins == b].sum()), int((bins == b).sum()))}
        for b in range(CALIBRATION_BINS)
        if (bins == b).any()
    ]


def floor(probability: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return mean and 95th percentile of the error that these probabilities would show if they were all true."""
    errors = chance_errors(probability, _FLOOR_ROUNDS, seed)
    return float(errors.mean()), float(np.percentile(errors, 95))


def debiased(probability: NDArray[np.float64], happened: NDArray[np.bool_], seed: int = 0) -> dict[str, Any]:
    """Return the calibration error, its floor for this n, and the error less the floor, never below 0."""
    if not len(probability):
        return {"value": None, "raw": None, "floor": None, "floor_p95": None, "n": 0}
    raw = float(calibration_errors(probability, happened[None])[0])
    least, most = floor(probability, seed)
    return {"value": max(0.0, raw - least), "raw": raw, "floor": least, "floor_p95": most, "n": len(probability)}


def brier(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the Brier score and its parts: reliability - resolution + uncertainty + spread within bins (Murphy 1973).

    The last part is what Stephenson et al. 2008 add for probabilities that differ within a bin; the parts sum exactly.
    """
    if not len(probability):
        return {"value": None, "n": 0}
    outcome, bins = happened.astype(float), calibration_bin(probability)
    score, base = float(((probability - outcome) ** 2).mean()), float(outcome.mean())
    reliability_part = resolution = 0.0
    for b in np.unique(bins):
        inside = bins == b
        weight, mean, rate = inside.mean(), probability[inside].mean(), outcome[inside].mean()
        reliability_part += float(weight * (mean - rate) ** 2)
        resolution += float(weight * (rate - base) ** 2)
    uncertainty = base * (1 - base)
    within = score - (reliability_part - resolution + uncertainty)
    parts = {"reliability": reliability_part, "resolution": resolution, "uncertainty": uncertainty, "within": within}
    return {"value": score, "n": len(probability), **parts}


def slope_and_intercept(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> dict[str, Any]:
    """Return slope and intercept of the outcome on the logit (1 and 0 are ideal), and calibration in the large.

    Cox 1958; Van Calster et al. 2019. None where the probabilities separate the outcomes: no slope is the likeliest.
    """
    inside = np.clip(probability, _EDGE, 1 - _EDGE)
    logit = np.log(inside / (1 - inside))
    curve, shift = fit_curve(logit, happened), fit_shift(logit, happened)
    known: dict[str, Any] = {"slope": None, "slope_low": None, "slope_high": None, "intercept": None}
    if curve:
        margin = 1.96 * curve.slope_error
        known = {"slope": curve.slope, "slope_low": curve.slope - margin, "slope_high": curve.slope + margin}
        known["intercept"] = curve.intercept
    return known | {"in_the_large": shift, "n": len(probability)}
