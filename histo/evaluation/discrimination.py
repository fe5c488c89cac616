"""The primary results: counts of label against verdict, every measure with both intervals, AUROC and AUPRC."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from histo.evaluation.cases import STATUSES, Cohort
from histo.evaluation.confusion import by_label, confusions, counts_by_label, overall, with_slides
from histo.evaluation.intervals import Figure, half_width, mean_of_shares, needed, number, share
from histo.evaluation.ranking import auroc, average_precision
from histo.evaluation.resampling import Bootstrap, Weights, percentiles, with_patients

SMALLEST_FOR_AUROC = 2


def primary(cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return counts, measures by label and measures over all labels; slides without a verdict are right for none."""
    count = len(cohort.labels)
    once = confusions(cohort.truth, cohort.called, count, np.ones((1, len(cohort.cases))))[0]
    drawn = confusions(cohort.truth, cohort.called, count, bootstrap.weights)
    spread = {name: _columns(values) for name, values in by_label(drawn).items()}
    exact = counts_by_label(once)
    labels: dict[str, dict[str, Figure]] = {}
    for k, label in enumerate(cohort.labels):
        labels[label] = {
            name: with_patients(share(*exact[k][name]), percentiles(spread[name][k]))
            for name in ("sensitivity", "specificity", "ppv", "npv")
        }
    own = [exact[k]["sensitivity"] for k in range(count)]
    balanced = mean_of_shares([h for h, _ in own], [n for _, n in own])
    whole, all_drawn = (overall(table, with_slides(once)) for table in (once, drawn))
    every = {
        name: with_patients({"value": number(v), "n": len(cohort.cases)}, percentiles(all_drawn[name]))
        for name, v in whole.items()
    }
    every["accuracy"] |= share(int(np.trace(once[:, :count])), len(cohort.cases))
    every["balanced_accuracy"] |= balanced
    return {
        "labels": list(cohort.labels),
        "confusion": {"columns": [*cohort.labels, "no verdict"], "counts": once.astype(int).tolist()},
        "status_by_label": _statuses(cohort),
        "by_label": labels,
        "overall": every,
    }


def among_judged(cohort: Cohort) -> dict[str, dict[str, Figure]]:
    """Return sensitivity and specificity of every label among the slides that have a verdict."""
    count = len(cohort.labels)
    judged = cohort.called < count
    table = confusions(cohort.truth[judged], cohort.called[judged], count, np.ones((1, int(judged.sum()))))[0]
    exact = counts_by_label(table)
    return {
        label: {name: share(*exact[k][name]) for name in ("sensitivity", "specificity")}
        for k, label in enumerate(cohort.labels)
    }


def _columns(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return list(values.T)


def _statuses(cohort: Cohort) -> dict[str, dict[str, int]]:
    """Return how many slides of each label have each status, right and wrong verdicts apart where there is one."""
    table: dict[str, dict[str, int]] = {}
    for label in cohort.labels:
        own = [c for c in cohort.cases if c.record.label == label]
        row: dict[str, int] = {}
        for status in STATUSES:
            those = [c for c in own if c.status == status]
            if status in ("done", "review"):
                row[f"{status}, right"] = sum(c.right for c in those)
                row[f"{status}, wrong"] = sum(not c.right for c in those)
            else:
                row[status] = len(those)
        table[label] = row
    return table


def ranks(
    cohort: Cohort, holds: Sequence[Mapping[str, bool | None]], bootstrap: Bootstrap
) -> dict[str, dict[str, Any]]:
    """Return AUROC and AUPRC of the presence of every class (multi-label) and of the probability of every label.

    `holds` (N) tells what each slide holds; a slide of which that is not known, or without a score, is left out and
    counted. `worst_case` puts slides without a score on the wrong side of all others.
    """
    found: dict[str, dict[str, Any]] = {"classes": {}, "labels": {}}
    for rule in cohort.model.classes:
        scores = np.array(
            [
                next((b.presence for b in c.result.burdens if b.class_name == rule.name), np.nan)
                if c.result
                else np.nan
                for c in cohort.cases
            ]
        )
        truth = np.array([np.nan if (h := held[rule.name]) is None else float(h) for held in holds])
        found["classes"][rule.name] = rank(scores, truth, bootstrap)
    for k, label in enumerate(cohort.labels):
        scores = np.array([c.verdict.probability.get(label, np.nan) if c.verdict else np.nan for c in cohort.cases])
        found["labels"][label] = rank(scores, (cohort.truth == k).astype(float), bootstrap)
    return found


def rank(scores: NDArray[np.float64], truth: NDArray[np.float64], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return AUROC and AUPRC of scores (N,) for truth (N,) of 0, 1 or NaN, with intervals by patient.

    AUROC has that of `auroc_interval` too, which takes slides as independent.
    """
    known, scored = np.isfinite(truth), np.isfinite(scores)
    rows = np.flatnonzero(known & scored)
    positive = truth[rows] == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    counts = {
        "positive": n_positive,
        "negative": n_negative,
        "truth_unknown": int((~known).sum()),
        "without_score": int((known & ~scored).sum()),
    }
    if min(n_positive, n_negative) < SMALLEST_FOR_AUROC:
        empty = {"value": None, "n": len(rows)}
        return counts | {"auroc": empty, "auprc": empty, "worst_case_auroc": None}
    ones = np.ones((1, len(rows)))

    def figure(measure: Callable[..., NDArray[np.float64]]) -> Figure:
        value = float(measure(scores[rows], positive, ones)[0])
        low_high = bootstrap.interval(lambda w: measure(scores[rows], positive, w), rows)
        return with_patients({"value": value, "n": len(rows)}, low_high)

    area = figure(auroc)
    area |= dict(zip(("low", "high"), auroc_interval(area["value"], n_positive, n_negative), strict=True))
    judged = np.flatnonzero(known)
    filled = np.where(scored, scores, np.where(truth == 1, -1.0, 2.0))[judged]
    worst = float(auroc(filled, truth[judged] == 1, np.ones((1, len(judged))))[0])
    return counts | {"auroc": area, "auprc": figure(average_precision), "worst_case_auroc": worst}


def auroc_interval(area: float, positive: int, negative: int) -> tuple[float, float]:
    """Return the interval of an AUROC by Newcombe 2006 (method 5): the areas from which `area` is not too far.

    The variance of Hanley and McNeil 1982 is taken at the bound, not at the estimate, where it vanishes near 0 and 1.
    """
    half = (positive + negative) / 2 - 1

    def too_far(bound: float) -> float:
        spread = 1 + half * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        return float((area - bound) ** 2 - 1.96**2 * bound * (1 - bound) * spread / (positive * negative))

    # 0 and 1 themselves are always roots for an area of 0 or 1.
    inside = min(max(area, 1e-9), 1 - 1e-9)
    low = brentq(too_far, 0.0, inside) if area > 0 else 0.0
    high = brentq(too_far, inside, 1.0) if area < 1 else 1.0
    return float(low), float(high)


def sample_size(by_label_figures: Mapping[str, Mapping[str, Figure]]) -> list[dict[str, Any]]:
    """Return for every label how sure its sensitivity is, and how many slides ± 5 % would take."""
    rows = []
    for label, measures in by_label_figures.items():
        figure = measures["sensitivity"]
        if figure["value"] is not None:
            width, n, name = half_width(figure), needed(figure["value"]), label.replace("_", " ")
            found = f"interval ± {width:.3f} from {figure['n']} slides"
            said = f"sensitivity for {name}: {found}; ± 0.05 at that value takes {n}"
            rows.append({"label": label, "half_width": width, "n": figure["n"], "n_for_5_percent": n, "sentence": said})
    return rows


def difference(
    weights: Weights, truth: NDArray[np.int64], ours: NDArray[np.int64], theirs: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return (B,) differences of balanced accuracy between two judges of the same slides, drawn together.

    NaN where none of a label is drawn.
    """
    among = np.isin(np.arange(count), truth)
    one, other = (overall(confusions(truth, c, count, weights), among)["balanced_accuracy"] for c in (ours, theirs))
    return np.asarray(one - other)
