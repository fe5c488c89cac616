"""Free-response ROC: the share of lesions found against the false candidates a normal slide."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.localisation import Located
from histo.evaluation.resampling import Bootstrap, percentiles

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
THRESHOLDS = np.linspace(0, 1, 256)[::-1]  # from strict to lax


def froc(
    located: Sequence[Located], normal: NDArray[np.bool_], bootstrap: Bootstrap, rows: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the curve of one class, and the mean sensitivity at a quarter to eight false candidates a normal slide.

    `located` (n) are the slides `rows` of the cohort that could be measured, `normal` (n,) tells which are normal:
    false candidates are counted on these alone, as in CAMELYON16. A lesion is found by its strongest candidate.
    """
    hits, false = _counts(located, normal)
    lesions = np.array([sum(one.counts for one in s.lesions) for s in located], float)
    ones = np.ones((1, len(located)))
    total, slides = float(lesions.sum()), int(normal.sum())
    if total == 0 or slides == 0:
        return {"score": None, "lesions": int(total), "normal_slides": slides, "at": [], "curve": []}
    sensitivity, rate = _curve(ones, hits, false, lesions, normal)
    drawn_sensitivity, drawn_rate = _curve(bootstrap.weights[:, rows], hits, false, lesions, normal)
    at = _at_rates(sensitivity, rate)[0]
    drawn = _at_rates(drawn_sensitivity, drawn_rate)
    interval = percentiles(drawn.mean(axis=1))
    kept = np.flatnonzero(np.diff(sensitivity[0], prepend=-1) + np.diff(rate[0], prepend=-1) > 0)
    return {
        "score": float(at.mean()),
        "patient_low": interval[0] if interval else None,
        "patient_high": interval[1] if interval else None,
        "lesions": int(total),
        "normal_slides": slides,
        "at": [
            {"false_per_slide": r, "sensitivity": float(s)} | _pair(percentiles(drawn[:, k]))
            for k, (r, s) in enumerate(zip(RATES, at, strict=True))
        ],
        "curve": [
            {
                "threshold": float(THRESHOLDS[k]),
                "false_per_slide": float(rate[0, k]),
                "sensitivity": float(sensitivity[0, k]),
            }
            for k in kept
        ],
    }


def _pair(interval: tuple[float, float] | None) -> dict[str, float | None]:
    return {"patient_low": interval[0] if interval else None, "patient_high": interval[1] if interval else None}


def _counts(located: Sequence[Located], normal: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lesions found and false candidates (n, T) of every slide at every threshold."""
    hits, false = np.zeros((len(located), len(THRESHOLDS))), np.zeros((len(located), len(THRESHOLDS)))
    for k, slide in enumerate(located):
        best: dict[int, float] = {}
        for c in slide.candidates:
            if c.lesion is None:
                if normal[k]:
                    false[k] += c.score >= THRESHOLDS
            elif c.lesion >= 0:
                best[c.lesion] = max(best.get(c.lesion, 0.0), c.score)
        for score in best.values():
            hits[k] += score >= THRESHOLDS
    return hits, false


def _curve(
    weights: NDArray[np.float64],
    hits: NDArray[np.float64],
    false: NDArray[np.float64],
    lesions: NDArray[np.float64],
    normal: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = (weights @ hits) / (weights @ lesions)[:, None]
        rate = (weights @ false) / (weights @ normal.astype(float))[:, None]
    return sensitivity, rate


def _at_rates(sensitivity: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B, 6) the highest sensitivity at no more than each rate of false candidates."""
    reached = [np.where(rate <= r, sensitivity, 0).max(axis=1) for r in RATES]
    known = np.isfinite(sensitivity).all(axis=1) & np.isfinite(rate).all(axis=1)
    return np.where(np.asarray(known)[:, None], np.stack(reached, axis=1), np.nan)
