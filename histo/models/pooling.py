"""Evidence for a class, pooled over a place: the log-odds of the strongest cells, as many as half of what counts."""

import math

import numpy as np
from numpy.typing import NDArray

SUREST = 1e-3  # no cell of a map can be surer than this: what a training shows of rarer errors is chance
STRONGEST = 0.5  # share of the smallest area that counts, of which the strongest cells are pooled: a rim is unsure


def pooled(values: NDArray[np.floating], cells: int) -> float:
    """Return the mean log-odds of the strongest probabilities, as many as make up half the smallest area that counts.

    `cells` make up all of it. Of fewer values those that are missing count as certainly nothing.
    """
    some, most = values[values > SUREST], _most(cells)  # most cells of a map are certainly nothing
    strongest = np.partition(some, -most)[-most:] if some.size > most else some
    odds = _log_odds(strongest)
    return float((odds.sum() + (most - odds.size) * _log_odds(np.zeros(()))) / most)


def pooled_by_label(
    values: NDArray[np.floating], labels: NDArray[np.integer], count: int, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `pooled` (N,) and the largest value (N,) of each of the labels 1 to `count` of a map (H, W).

    All at once: a map of a network that learnt nothing has thousands.
    """
    inside = labels > 0
    numbers, p = labels[inside] - 1, values[inside]
    order = np.lexsort((-p, numbers))
    numbers, p = numbers[order], p[order]
    sizes, most = np.bincount(numbers, minlength=count), _most(cells)
    first = np.cumsum(sizes) - sizes
    strongest = np.arange(len(p)) - first[numbers] < most
    odds = np.bincount(numbers[strongest], weights=_log_odds(p[strongest]), minlength=count)
    missing = most - np.minimum(sizes, most)
    return (odds + missing * _log_odds(np.zeros(()))) / most, p[first].astype(np.float64)


def _most(cells: int) -> int:
    return math.ceil(STRONGEST * cells)


def _log_odds(values: NDArray[np.floating]) -> NDArray[np.float64]:
    p = np.clip(values.astype(np.float64), SUREST, 1 - SUREST)
    return np.asarray(np.log(p) - np.log1p(-p))
