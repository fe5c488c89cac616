"""What changes away from home: this evaluation beside one on familiar slides, foreign tissue, and the stress tests.

An external test says little without the internal one beside it: how much was lost, and would the model have noticed?
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histo.errors import UsageError
from histo.evaluation.cases import Cohort
from histo.evaluation.discrimination import SMALLEST_FOR_AUROC, auroc_interval
from histo.evaluation.intervals import Figure, share
from histo.evaluation.other_reports import labels_of, read_report
from histo.evaluation.ranking import auroc

BALANCED = "balanced accuracy"


def foreign(cohort: Cohort) -> dict[str, Any]:
    """Return how far every slide's tissue lies from what the model knows, and how many are over its limit.

    `distances` leaves out slides for which that was not measured, because the model has no reference or the slide no
    verdict.
    """
    checks = [c.result.checks for c in cohort.cases if c.result and c.result.checks]
    far = [(k.foreign_distance, k.foreign_limit) for k in checks]
    known = [(distance, limit) for distance, limit in far if distance is not None and limit is not None]
    return {
        "distances": [distance for distance, _ in known],
        "over_limit": share(sum(distance > limit for distance, limit in known), len(known)),
        "not_measured": len(cohort.cases) - len(known),
    }


def robustness(report: Mapping[str, Any], familiar: Path | None, card: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the difference of every headline figure to the report `familiar`, and the stress tests of a card.

    Raises `UsageError` for a file that is no report, one of another model, and one of the same slides.
    """
    return {
        "familiar": None if familiar is None else _beside(report, read_report(familiar), str(familiar)),
        "stress": _stress(card),
    }


def _beside(report: Mapping[str, Any], other: Mapping[str, Any], where: str) -> dict[str, Any]:
    if other["freeze"]["digest"] != report["freeze"]["digest"]:
        raise UsageError(f"{where} is of another model; evaluate this one on slides that are familiar to it")
    if other["reference"]["slides_sha256"] == report["reference"]["slides_sha256"]:
        raise UsageError(f"{where} judges the same slides; give an evaluation on others")
    ours, theirs = _headline(report), _headline(other)
    return {
        "report": where,
        "slides": other["flow"]["slides"],
        "manifest_sha256": other["reference"]["manifest_sha256"],
        "other_labels": labels_of(report) != labels_of(other),
        "change": [
            {"measure": name, "familiar": theirs[name], "here": figure, "change": change(figure, theirs[name])}
            for name, figure in ours.items()
            if name in theirs and (name != BALANCED or labels_of(report) == labels_of(other))
        ],
        "foreign_auroc": _foreign_auroc(report["foreign"]["distances"], other["foreign"]["distances"]),
        "foreign_over_limit": other["foreign"]["over_limit"],
        "foreign_distances": other["foreign"]["distances"],
    }


def _headline(report: Mapping[str, Any]) -> dict[str, Figure]:
    figures = {BALANCED: report["primary"]["overall"]["balanced_accuracy"]}
    figures |= {f"AUROC of {name}": f["auroc"] for name, f in report["ranking"]["classes"].items()}
    figures |= {f"Dice of {name}": c["dice"] for name, c in report["localisation"]["classes"].items()}
    figures["decided without review"] = report["abstention"]["decided"]
    figures["right of those decided"] = report["abstention"]["accuracy_on_decided"]
    return figures


def change(here: Figure, there: Figure) -> Figure:
    """Return the difference of two figures of different slides with its interval, from the intervals of both.

    The square-and-add method (Zou and Donner 2008): each bound takes what either figure may be off. The interval by
    patient is used where both have one that is no point.

    >>> one, other = ({"value": v, "low": v - 0.03, "high": v + 0.03} for v in (0.7, 0.9))
    >>> {k: round(v, 3) for k, v in change(one, other).items()}
    {'value': -0.2, 'low': -0.242, 'high': -0.158}
    """
    if here.get("value") is None or there.get("value") is None:
        return {"value": None, "low": None, "high": None}
    value = here["value"] - there["value"]
    for low, high in (("patient_low", "patient_high"), ("low", "high")):
        bounds = [float(x) for f in (here, there) for k in (low, high) if (x := f.get(k)) is not None]
        if len(bounds) == 4 and bounds[0] < bounds[1] and bounds[2] < bounds[3]:
            down = np.hypot(here["value"] - bounds[0], bounds[3] - there["value"])
            up = np.hypot(bounds[1] - here["value"], there["value"] - bounds[2])
            return {"value": value, "low": float(value - down), "high": float(value + up)}
    return {"value": value, "low": None, "high": None}


def _foreign_auroc(here: list[float], familiar: list[float]) -> Figure:
    """Return how well the distance of the tissue alone tells these slides from familiar ones."""
    if min(len(here), len(familiar)) < SMALLEST_FOR_AUROC:
        return {"value": None, "low": None, "high": None, "n": len(here) + len(familiar)}
    scores = np.array([*here, *familiar])
    positive = np.arange(len(scores)) < len(here)
    value = float(auroc(scores, positive, np.ones((1, len(scores))))[0])
    low, high = auroc_interval(value, len(here), len(familiar))
    return {"value": value, "low": low, "high": high, "n": len(scores)}


def _stress(card: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return every table of stress tests that a card holds, see `histo stress --note`."""
    noted: Mapping[str, Any] = (card or {}).get("evaluation") or {}
    return [
        {"name": name, "summary": told["summary"], "tests": told["tests"]}
        for name, told in noted.items()
        if isinstance(told, Mapping) and {"summary", "tests"} <= set(told)
    ]
