"""The statistics that rooms share: exact intervals, AUROC, permutation tests by patient, calibration error."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

CALIBRATION_BINS = 10
ENOUGH_TO_TELL = 20  # if all are right, the share is proven to be above 0.83; with fewer no figure is worth the name


def clopper_pearson(right: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share, Clopper and Pearson 1934; (0, 1) for a count of 0.

    Counts that are not whole (effective numbers) are taken as they are.

    >>> [round(x, 3) for x in clopper_pearson(10, 10)]
    [0.692, 1.0]
    """
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, right, count - right + 1)) if right else 0.0
    high = float(beta.ppf(1 - tail, right + 1, count - right)) if right < count else 1.0
    return low, high


def share_by_group(
    part: NDArray[np.floating], whole: NDArray[np.floating], groups: Sequence[str], rounds: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile interval of sum(part) / sum(whole), each (N,), with whole groups drawn again.

    Cluster bootstrap: rows of one patient stay together. (0, 1) where there is nothing to share. Where no group has a
    part nothing can be drawn: the bound is that of the share of groups that have one (Clopper and Pearson 1934).
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    count = int(number.max(initial=-1)) + 1
    parts, wholes = (np.bincount(number, weights=values, minlength=count) for values in (part, whole))
    if not wholes.sum() > 0:
        return 0.0, 1.0
    if not parts.any():
        return 0.0, clopper_pearson(0, int((wholes > 0).sum()))[1]
    drawn = np.random.default_rng(seed).integers(count, size=(rounds, count))
    top, bottom = parts[drawn].sum(axis=1), wholes[drawn].sum(axis=1)
    low, high = np.percentile(np.minimum((top / np.maximum(bottom, 1e-12))[bottom > 0], 1), [2.5, 97.5])
    return float(low), float(high)


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive scores above a negative, ties counted half; 0.5 where one side is empty.

    >>> auroc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
    1.0
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return 0.5
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def separations(
    properties: Mapping[str, NDArray[np.floating]], positive: NDArray[np.bool_], rounds: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return for every property (N,) its AUROC whatever the direction, and its p-value over all properties together.

    Labels are shuffled `rounds` times; p is the share of shuffles in which the best of all properties separates at
    least as well (Westfall and Young 1993, the maximum statistic), so that looking at many properties costs nothing.
    """
    ranks = np.stack([rankdata(values) for values in properties.values()])
    found = _separation(ranks, positive)
    rng = np.random.default_rng(seed)
    best = np.array([_separation(ranks, rng.permutation(positive)).max() for _ in range(rounds)])
    p = [(1 + int((best >= one - 1e-9).sum())) / (rounds + 1) for one in found]
    return {name: (float(a), q) for name, a, q in zip(properties, found, p, strict=True)}


def _separation(ranks: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return np.full(len(ranks), 0.5)
    area = (ranks[:, positive].sum(axis=1) - n * (n + 1) / 2) / (n * m)
    return np.asarray(np.maximum(area, 1 - area), float)


def association(one: Sequence[str], other: Sequence[str], rounds: int, seed: int) -> tuple[float, float]:
    """Return Cramér's V of two groupings (0 independent, 1 one follows from the other) and its permutation p-value."""
    a, b = (np.unique(np.asarray(x), return_inverse=True)[1] for x in (one, other))
    found = _cramer(a, b)
    rng = np.random.default_rng(seed)
    beaten = sum(_cramer(a, rng.permutation(b)) >= found - 1e-9 for _ in range(rounds))
    return found, (1 + beaten) / (rounds + 1)


def _cramer(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    smaller = min(table.shape) - 1
    if smaller == 0:
        return 0.0
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    return float(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum() / smaller))


def calibration_bin(probability: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return which of ten bins of equal width each probability (N,) lies in."""
    return np.asarray(np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1), np.int64)


def calibration_errors(
    probability: NDArray[np.floating], outcomes: NDArray[np.floating | np.bool_]
) -> NDArray[np.float64]:
    """Return the expected calibration error (K,) of probabilities (N,) against each of many outcomes (K, N).

    Ten bins of equal width, Naeini et al. 2015.
    """
    member = np.eye(CALIBRATION_BINS)[calibration_bin(probability)]
    gaps = np.abs((outcomes - probability) @ member)
    return np.asarray(gaps.sum(axis=1) / len(probability), float)


def chance_errors(probability: NDArray[np.floating], rounds: int, seed: int) -> NDArray[np.float64]:
    """Return the calibration errors (K,) that probabilities (N,) would show in `rounds` truths if they were all true.

    On few slides these are far from 0 (Bröcker and Smith 2007): 0.10 on average for 30 slides.
    """
    rng = np.random.default_rng(seed)
    return calibration_errors(probability, rng.random((rounds, len(probability))) < probability)
