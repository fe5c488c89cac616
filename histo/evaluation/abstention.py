"""What saying "review" buys: risk at every coverage, verdicts that stood, the worst case, and the conformal sets."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from histo.evaluation.cases import Case, Cohort
from histo.evaluation.intervals import Figure, mean_of_shares, share

FEWEST_TO_SHOW = 19  # slides of a label below which even full coverage says nothing of 95 %


def abstention(cohort: Cohort) -> dict[str, Any]:
    """Return shares of every status, accuracy on what was decided, and the worst case in which abstaining is wrong."""
    cases = cohort.cases
    done = [c for c in cases if c.status == "done"]
    right = sum(c.right for c in done)
    ranked = sorted(cases, key=lambda c: (c.status != "done", -c.sure, c.record.slide))
    curve = coverage_risk([c.right for c in ranked])
    return {
        "decided": share(len(done), len(cases)),
        "review": share(sum(c.status == "review" for c in cases), len(cases)),
        "no_verdict": share(sum(c.verdict is None for c in cases), len(cases)),
        "accuracy_on_decided": share(right, len(done)),
        "balanced_accuracy_on_decided": _balanced(cohort, done, done),
        "worst_case_accuracy": share(right, len(cases)),
        "worst_case_balanced_accuracy": _balanced(cohort, done, cases),
        "confident_errors": share(len(done) - right, len(cases)),
        "review_suggestion_right": share(sum(c.right for c in cases if c.status == "review"), _in_review(cases)),
        "reasons": dict(Counter(r.code for c in cases if c.result for r in c.result.reasons).most_common()),
        "coverage_risk": curve,
        "area_under_coverage_risk": float(np.mean([p["risk"] for p in curve])) if curve else None,
    }


def _in_review(cases: Sequence[Case]) -> int:
    return sum(c.status == "review" for c in cases)


def _balanced(cohort: Cohort, right_among: Sequence[Case], among: Sequence[Case]) -> Figure:
    hits = [sum(c.right for c in right_among if c.record.label == label) for label in cohort.labels]
    return mean_of_shares(hits, [sum(c.record.label == label for c in among) for label in cohort.labels])


def coverage_risk(right: Sequence[bool]) -> list[dict[str, float]]:
    """Return share judged and share wrong among these, adding slides in the given order (El-Yaniv and Wiener 2010).

    >>> coverage_risk([True, False])
    [{'coverage': 0.5, 'risk': 0.0}, {'coverage': 1.0, 'risk': 0.5}]
    """
    wrong = np.cumsum(~np.asarray(right, bool))
    n = len(right)
    return [{"coverage": (k + 1) / n, "risk": float(wrong[k] / (k + 1))} for k in range(n)]


def conformal(cohort: Cohort) -> dict[str, Any]:
    """Return how often the set of labels that are not excluded holds the truth, and how large it is, per label.

    A slide without a verdict has no set; it is counted apart, not as covered.
    """
    judged = [c for c in cohort.cases if c.verdict]
    by_label = {}
    for label in cohort.labels:
        own = [c for c in judged if c.record.label == label]
        by_label[label] = _sets(own) | {"too_few_to_show": len(own) < FEWEST_TO_SHOW}
    return _sets(judged) | {"without_set": len(cohort.cases) - len(judged), "by_label": by_label}


def _sets(cases: Sequence[Case]) -> dict[str, Any]:
    sizes = [len(c.verdict.not_excluded) for c in cases if c.verdict]
    return {
        "coverage": share(sum(c.record.label in c.verdict.not_excluded for c in cases if c.verdict), len(cases)),
        "mean_size": float(np.mean(sizes)) if sizes else None,
        "sizes": {str(k): sizes.count(k) for k in sorted(set(sizes))},
    }
