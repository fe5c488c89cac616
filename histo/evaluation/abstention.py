"""What saying "review" buys: risk at every coverage, verdicts that stood, the worst case, and the conformal sets."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from histo.evaluation.cases import Cohort
from histo.evaluation.resampling import Bootstrap, Mask
from histo.statistics import clopper_pearson

PROMISED = 0.95  # what a conformal set is to hold


def abstention(cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return shares of every status, accuracy on what was decided, and the worst case in which abstaining is wrong."""
    cases = cohort.cases
    right, done, review = cohort.right, cohort.has_status("done"), cohort.has_status("review")
    every = np.ones(len(cases), bool)
    labels = [cohort.truth == k for k in range(len(cohort.labels))]
    ranked = sorted(cases, key=lambda c: (c.status != "done", -c.sure, c.record.slide))
    curve = coverage_risk([c.right for c in ranked])
    return {
        "decided": bootstrap.share(done, every),
        "review": bootstrap.share(review, every),
        "no_verdict": bootstrap.share(~cohort.judged, every),
        "accuracy_on_decided": bootstrap.share(right, done),
        "balanced_accuracy_on_decided": bootstrap.mean_of_shares(right, [own & done for own in labels]),
        "worst_case_accuracy": bootstrap.share(right & done, every),
        "worst_case_balanced_accuracy": bootstrap.mean_of_shares(right & done, labels),
        "confident_errors": bootstrap.share(done & ~right, every),
        "review_suggestion_right": bootstrap.share(right, review),
        "reasons": dict(Counter(r.code for c in cases if c.result for r in c.result.reasons).most_common()),
        "only_reason": dict(
            Counter(c.result.reasons[0].code for c in cases if c.result and len(c.result.reasons) == 1).most_common()
        ),
        "coverage_risk": curve,
        "area_under_coverage_risk": float(np.mean([p["risk"] for p in curve])) if curve else None,
    }


def coverage_risk(right: Sequence[bool]) -> list[dict[str, float]]:
    """Return share judged and share wrong among these, adding slides in the given order (El-Yaniv and Wiener 2010).

    >>> coverage_risk([True, False])
    [{'coverage': 0.5, 'risk': 0.0}, {'coverage': 1.0, 'risk': 0.5}]
    """
    wrong = np.cumsum(~np.asarray(right, bool))
    n = len(right)
    return [{"coverage": (k + 1) / n, "risk": float(wrong[k] / (k + 1))} for k in range(n)]


def conformal(cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how often the set of labels that are not excluded holds the truth, and how large it is, per label.

    A slide without a verdict has no set; it is counted apart, not as covered. `levels` counts the slides whose set is
    certified at a level; a set without one (`not_certified`) excludes by probability alone, or nothing, and is right
    for nothing then: `certified` is what the promise is worth where it is given, with the label that has it `worst`.
    """
    judged = cohort.judged
    certified = np.array([c.verdict is not None and c.verdict.level is not None for c in cohort.cases], bool)
    levels = Counter(f"{c.verdict.level:g}" for c in cohort.cases if c.verdict and c.verdict.level is not None)
    return _sets(cohort, judged, bootstrap) | {
        "without_set": int((~judged).sum()),
        "levels": dict(sorted(levels.items())),
        "not_certified": int(judged.sum()) - levels.total(),
        "certified": _sets(cohort, certified, bootstrap) | {"worst": _worst(cohort, certified, bootstrap)},
        "by_label": {
            label: _sets(cohort, own := judged & (cohort.truth == k), bootstrap)
            | {"too_few_to_show": clopper_pearson(int(own.sum()), int(own.sum()))[0] < PROMISED}
            for k, label in enumerate(cohort.labels)
        },
    }


def _worst(cohort: Cohort, among: Mask, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Return the label whose slides the sets hold least often, None without slides."""
    rows = [
        {"label": label} | _sets(cohort, own, bootstrap)
        for k, label in enumerate(cohort.labels)
        if (own := among & (cohort.truth == k)).any()
    ]
    return min(rows, key=lambda row: float(row["coverage"]["value"]), default=None)


def _sets(cohort: Cohort, among: Mask, bootstrap: Bootstrap) -> dict[str, Any]:
    covered = np.array([c.verdict is not None and c.record.label in c.verdict.not_excluded for c in cohort.cases], bool)
    sizes = [len(c.verdict.not_excluded) for c in cohort.where(among) if c.verdict]
    return {
        "coverage": bootstrap.share(covered, among),
        "mean_size": float(np.mean(sizes)) if sizes else None,
        "sizes": {str(k): sizes.count(k) for k in sorted(set(sizes))},
    }
