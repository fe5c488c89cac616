"""Sets of diagnoses that hold the right one with a known frequency: conformal prediction, label by label.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (Mondrian); the score of a slide is 1 less the
probability of its label. The promise holds for patients drawn like those of the calibration, and for no others. Scores
are cross-fitted (Vovk, Cross-conformal predictors, 2015) and the bound is used with a fit to all patients, of two or
three numbers: what is a theorem for the split form holds nearly here.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import Field

from histo.schema import Share, Strict

WANTED = 0.95
FEWEST = 9  # calibration patients of a label below which no set is given: they certify 0.9 at most


class LabelBound(Strict):
    """How improbable a label may be and still not be excluded, and the level that its patients certify for that."""

    patients: int = Field(ge=1)
    level: Share
    largest_score: Share


class Conformal(Strict):
    """Bounds by label; a label is not excluded where 1 less its probability is at most its bound."""

    wanted: Share
    labels: dict[str, LabelBound]

    @property
    def level(self) -> float:
        """The level certified for every label."""
        return min(bound.level for bound in self.labels.values())

    @property
    def in_words(self) -> tuple[str, ...]:
        """What a report says of it: sentences."""
        counts = ", ".join(f"{bound.patients} {name}" for name, bound in self.labels.items())
        return (
            f"Of slides like those of the calibration (patients: {counts}) that no check speaks against, the diagnoses "
            f"not excluded hold the right one on at least {100 * self.level:.3g} %.",
        )

    def not_excluded(self, probability: Mapping[str, float]) -> tuple[str, ...]:
        """Return the labels that are not excluded, in the order of `probability`; there may be none."""
        return tuple(name for name, p in probability.items() if 1 - p <= self.labels[name].largest_score)


def bound_of(scores: Sequence[float], wanted: float = WANTED) -> LabelBound:
    """Return the bound of a label from the scores of its calibration patients, one a patient.

    The finite-sample quantile: of n scores the one of rank ceil((n + 1) wanted). Where n is too small for that rank
    (below 19 at 0.95) the largest score is taken, which certifies n / (n + 1).
    """
    n = len(scores)
    rank = math.ceil((n + 1) * wanted - 1e-9)
    level = wanted if rank <= n else n / (n + 1)
    return LabelBound(patients=n, level=level, largest_score=sorted(scores)[min(rank, n) - 1])


def fit_conformal(
    scores: Mapping[str, Sequence[float]], wanted: float = WANTED, fewest: int = FEWEST
) -> tuple[Conformal | None, tuple[str, ...]]:
    """Return the bounds of all labels, or None where a label has fewer than `fewest` patients, and sentences on why."""
    short = {name: len(some) for name, some in scores.items() if len(some) < fewest}
    if short:
        names = ", ".join(f"{name} ({n})" for name, n in short.items())
        few = f"fewer than {fewest} calibration patients of {names} with a slide that no check speaks against"
        return None, (f"No sets of diagnoses: {few}.",)
    bounds = {name: bound_of(some, wanted) for name, some in scores.items()}
    told = tuple(
        f"Cannot certify {100 * wanted:g} % for {name}: {b.patients} calibration patients allow {100 * b.level:.1f} %."
        for name, b in bounds.items()
        if b.level < wanted
    )
    return Conformal(wanted=wanted, labels=bounds), told
