"""Area under the ROC and the precision-recall curve for many weightings of the same slides at once."""

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: Weights) -> NDArray[np.float64]:
    """Return (B,) areas under the ROC curve for weights (B, N); ties count half, NaN where one side is empty."""
    true, false = _cumulated(scores, positive, weights)
    below = np.diff(false, axis=1, prepend=0) / 2 + np.concatenate([np.zeros_like(false[:, :1]), false[:, :-1]], axis=1)
    # Going down from the strongest score, every positive beats the negatives that are still to come.
    total_true, total_false = true[:, -1], false[:, -1]
    gained = np.diff(true, axis=1, prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - (gained * below).sum(axis=1) / (total_true * total_false))


def average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return (B,) areas under the precision-recall curve by steps (average precision); NaN without a positive."""
    true, false = _cumulated(scores, positive, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.nan_to_num(true / (true + false))
        gained = np.diff(true, axis=1, prepend=0)
        return np.asarray((gained * precision).sum(axis=1) / true[:, -1])


def _cumulated(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: Weights
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight of positives and of negatives (B, G) at or above each distinct score, strongest first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    drawn = weights[:, order]
    true = np.cumsum(drawn * positive[order], axis=1)[:, ends]
    false = np.cumsum(drawn * ~positive[order], axis=1)[:, ends]
    return true, false
