"""The bootstrap by patient: whole patients are drawn, within the label that most of their slides have.

Slides of one patient are no independent findings; drawing patients keeps what they share (Field and Welsh 2007).
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.intervals import Figure, mean_of_shares, share

ROUNDS = 2000
Weights = NDArray[np.float64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Weights], NDArray[np.float64]]


class Bootstrap:
    """How often every slide is drawn in each of many rounds, `weights` (B, N); the same seed draws the same.

    `patients` (N,) may hold None where the manifest names none: such a slide is drawn alone, and a banner says so.
    """

    def __init__(
        self, patients: Sequence[str | None], labels: Sequence[str], rounds: int = ROUNDS, seed: int = 0
    ) -> None:
        names = [p if p is not None else f"\0slide {k}" for k, p in enumerate(patients)]
        number, of = np.unique(names, return_inverse=True) if names else (np.zeros(0), np.zeros(0, np.int64))
        self.patients = len(number)
        rng = np.random.default_rng(seed)
        drawn = np.zeros((rounds, self.patients))
        for members in _strata(of, labels, self.patients):
            drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), rounds)
        self.weights: Weights = drawn[:, of]

    def interval(self, statistic: Statistic, rows: NDArray[np.int64] | None = None) -> tuple[float, float] | None:
        """Return the 95 % percentile interval of a statistic of weights (B, n) over `rows`, all slides if None.

        Rounds in which the statistic does not exist (NaN) are left out; None when fewer than half are left.
        """
        weights = self.weights if rows is None else self.weights[:, rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            return percentiles(statistic(weights))

    def share(self, hits: Mask, among: Mask) -> Figure:
        """Return the share of slides `among` (N,) that are `hits` (N,), with the interval of slides and by patient."""
        hits = hits & among
        interval = self.interval(lambda w: (w @ hits) / (w @ among))
        return with_patients(share(int(hits.sum()), int(among.sum())), interval)

    def mean_of_shares(self, hits: Mask, groups: Sequence[Mask]) -> Figure:
        """Return the mean of the shares of `hits` (N,) over groups (N,) that weigh alike, with both intervals.

        Groups without slides are left out. A round that draws none of a group is no round.
        """
        groups = [group for group in groups if group.any()]
        counts = [(int((hits & group).sum()), int(group.sum())) for group in groups]
        figure = mean_of_shares([h for h, _ in counts], [n for _, n in counts])
        if not groups:
            return with_patients(figure, None)
        return with_patients(
            figure, self.interval(lambda w: np.mean([(w @ (hits & group)) / (w @ group) for group in groups], axis=0))
        )


def percentiles(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 2.5 and 97.5 percentiles of what is a number, None when fewer than half of `values` (B,) are."""
    known = values[np.isfinite(values)]
    if len(known) < max(1, len(values) / 2):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def with_patients(figure: Figure, interval: tuple[float, float] | None) -> Figure:
    """Return a figure with the interval of the bootstrap by patient beside its own."""
    low, high = interval or (None, None)
    return figure | {"patient_low": low, "patient_high": high}


def _strata(of: NDArray[np.int64], labels: Sequence[str], patients: int) -> list[list[int]]:
    """Return the patients of every stratum; a patient stands with the label of most slides, the rarer one on a tie."""
    slides = Counter(labels)
    theirs: list[Counter[str]] = [Counter() for _ in range(patients)]
    for patient, label in zip(of.tolist(), labels, strict=True):
        theirs[patient][label] += 1
    strata: dict[str, list[int]] = {}
    for patient, counts in enumerate(theirs):
        best = min(counts, key=lambda label: (-counts[label], slides[label], label))
        strata.setdefault(best, []).append(patient)
    return list(strata.values())
