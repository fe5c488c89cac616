"""Agreement of lesion areas with the truth: relative error, Bland-Altman on the logarithm, concordance, ICC."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.localisation import Located
from histo.evaluation.resampling import Bootstrap, percentiles


def area_agreement(located: Sequence[Located], bootstrap: Bootstrap, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Compare the area (mm²) of one class with its truth over the slides that hold enough of it.

    A lesion that was missed altogether counts in the median error as 100 %; it has no logarithm, and is left out of
    the limits of agreement and counted in `missed`.
    """
    kept = [k for k, one in enumerate(located) if one.has_truth]
    truth = np.array([located[k].truth_mm2 for k in kept])
    called = np.array([located[k].called_mm2 for k in kept])
    if not len(kept):
        return {"n": 0, "median_error": None, "median_bias": None, "missed": 0, "ccc": None, "icc": None} | {
            "bland_altman": None
        }
    error = called / truth - 1
    weights = bootstrap.weights[:, rows[kept]]
    interval = percentiles(_weighted_median(np.abs(error), weights))
    return {
        "n": len(kept),
        "median_error": float(np.median(np.abs(error))),
        "patient_low": interval[0] if interval else None,
        "patient_high": interval[1] if interval else None,
        "median_bias": float(np.median(error)),
        "missed": int((called == 0).sum()),
        "ccc": concordance(truth, called),
        "icc": intraclass_correlation(truth, called),
        "bland_altman": bland_altman(truth, called),
        "pairs_mm2": [[float(a), float(b)] for a, b in zip(truth, called, strict=True)],
    }


def concordance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return Lin's concordance correlation coefficient (Lin 1989); None for fewer than three pairs or no spread."""
    if len(one) < 3 or np.ptp(one) == 0:
        return None
    covariance = float(((one - one.mean()) * (other - other.mean())).mean())
    return 2 * covariance / float(one.var() + other.var() + (one.mean() - other.mean()) ** 2)


def intraclass_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return ICC(A,1) of two raters, absolute agreement of single ratings (McGraw and Wong 1996).

    From the mean squares of a two-way analysis of variance; None for fewer than three pairs or no spread.
    """
    pairs = np.stack([one, other], axis=1)
    n, raters = pairs.shape
    if n < 3 or np.ptp(pairs) == 0:
        return None
    whole, rows, columns = pairs.mean(), pairs.mean(axis=1), pairs.mean(axis=0)
    between = raters * ((rows - whole) ** 2).sum() / (n - 1)
    raters_apart = n * ((columns - whole) ** 2).sum() / (raters - 1)
    rest = ((pairs - rows[:, None] - columns + whole) ** 2).sum() / ((n - 1) * (raters - 1))
    return float((between - rest) / (between + (raters - 1) * rest + raters * (raters_apart - rest) / n))


def bland_altman(truth: NDArray[np.float64], called: NDArray[np.float64]) -> dict[str, float | int] | None:
    """Return mean and 95 % limits of the ratio called / true, from the logarithms of both (Bland and Altman 1999)."""
    both = (truth > 0) & (called > 0)
    if both.sum() < 3:
        return None
    difference = np.log(called[both] / truth[both])
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    low, high = mean - 1.96 * spread, mean + 1.96 * spread
    return {"n": int(both.sum()), "ratio": float(np.exp(mean)), "low": float(np.exp(low)), "high": float(np.exp(high))}


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B,) medians of values (n,) repeated as weights (B, n) say; NaN without any."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[:, order], axis=1)
    total = cumulated[:, -1:]
    lower = (cumulated >= total / 2).argmax(axis=1)
    upper = (cumulated > total / 2).argmax(axis=1)
    medians = (values[order][lower] + values[order][upper]) / 2
    return np.where(total[:, 0] > 0, medians, np.nan)
