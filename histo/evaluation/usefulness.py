"""What the figures mean where the disease is rarer, and whether acting on the model does more good than harm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.cases import Cohort
from histo.evaluation.intervals import Figure

PREVALENCES = (0.001, 0.01, 0.10, 0.33)
THRESHOLDS = tuple(round(0.02 * k, 2) for k in range(1, 50))


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float | None, float | None]:
    """Return PPV and NPV at a prevalence by Bayes' theorem; None where nothing would be called so.

    >>> ppv, npv = predictive_values(0.9, 0.9, 0.5)
    >>> round(ppv, 6), round(npv, 6)
    (0.9, 0.9)
    """
    hit, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    clear, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return (hit / (hit + false) if hit + false else None, clear / (clear + missed) if clear + missed else None)


def at_prevalences(measures: Mapping[str, Figure]) -> list[dict[str, Any]]:
    """Return PPV and NPV of one label at other prevalences, from its shares among slides with a verdict.

    Bounds take both bounds of the shares at once. That is wider than a 95 % interval, and says so honestly: nobody
    measured these populations.
    """
    sensitivity, specificity = measures["sensitivity"], measures["specificity"]
    if sensitivity["value"] is None or specificity["value"] is None:
        return []
    rows = []
    for prevalence in PREVALENCES:
        middle = predictive_values(sensitivity["value"], specificity["value"], prevalence)
        worst = predictive_values(sensitivity["low"], specificity["low"], prevalence)
        best = predictive_values(sensitivity["high"], specificity["high"], prevalence)
        rows.append(
            {"prevalence": prevalence}
            | {name: {"value": middle[k], "low": worst[k], "high": best[k]} for k, name in enumerate(("ppv", "npv"))}
        )
    return rows


def decision_curve(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return net benefit of acting on the model, on every slide and on none, by threshold (Vickers and Elkin 2006).

    `probability` (N,) may hold NaN for slides without one: on these nobody acts.
    """
    n, prevalence = len(positive), float(positive.mean()) if len(positive) else 0.0
    rows = []
    for threshold in THRESHOLDS if n else ():
        acted = np.nan_to_num(probability, nan=-1.0) >= threshold
        odds = threshold / (1 - threshold)
        model = float((acted & positive).sum() - odds * (acted & ~positive).sum()) / n
        rows.append({"threshold": threshold, "model": model, "all": prevalence - odds * (1 - prevalence), "none": 0.0})
    return rows


def decisions(cohort: Cohort) -> dict[str, list[dict[str, float]]]:
    """Return the decision curve of every label that is not the normal one, and of any of them together."""
    curves = {}
    chances = {
        label: np.array([c.verdict.probability.get(label, np.nan) if c.verdict else np.nan for c in cohort.cases])
        for label in cohort.labels
    }
    for k, label in enumerate(cohort.labels):
        if k:
            curves[label] = decision_curve(chances[label], cohort.truth == k)
    curves["any lesion"] = decision_curve(1 - chances[cohort.labels[0]], cohort.truth != 0)
    return curves
