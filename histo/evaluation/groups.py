"""Who was in the study, and how the figures differ between groups of slides."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histo.evaluation.cases import STATUSES, Case, Cohort
from histo.evaluation.intervals import mean_of_shares, share

FEWEST = 10  # a smaller group gets no figure
_MOST_VALUES = 12
NOT_GIVEN = "not given"
_LISTED = 24


def flow(cohort: Cohort) -> dict[str, Any]:
    """Return patients, slides and statuses with the reasons, by split of the manifest."""
    cases = cohort.cases
    splits = sorted({c.record.split or "no split" for c in cases})
    return {
        "patients": len({p for p in cohort.patients if p}),
        "slides_without_patient": sum(p is None for p in cohort.patients),
        "slides": len(cases),
        "set_aside": dict(cohort.set_aside),
        "results_of_no_listed_slide": cohort.foreign,
        "status": {s: sum(c.status == s for c in cases) for s in STATUSES},
        "reasons": _reasons(cases),
        "by_split": {
            split: {
                "patients": len({c.record.patient for c in cases if (c.record.split or "no split") == split}),
                "slides": sum((c.record.split or "no split") == split for c in cases),
            }
            for split in splits
        },
        "by_label": {
            label: {
                "patients": len({c.record.patient for c in cases if c.record.label == label}),
                "slides": sum(c.record.label == label for c in cases),
                "outlined": sum(c.record.annotation is not None for c in cases if c.record.label == label),
            }
            for label in cohort.labels
        },
        "tissue_mm2": {
            part: float(sum(getattr(c.result.areas, part) for c in cases if c.result and c.result.areas))
            for part in ("tissue_mm2", "scored_mm2", "unreadable_mm2", "excluded_mm2")
        },
    }


def _reasons(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return how often each reason code stands with each status, most frequent first."""
    found = Counter((c.status, r.code) for c in cases if c.result for r in c.result.reasons)
    return [{"status": status, "code": code, "slides": n} for (status, code), n in found.most_common()]


def columns_of(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Return the value of every column by which slides can be grouped: the manifest's own, site, format and scale.

    Columns that name slides rather than groups of them (nearly as many values as slides) are left out; numbers with
    many values become thirds.
    """
    names = list(dict.fromkeys(name for c in cases for name in c.record.extra))
    found = {"site": [c.record.site or NOT_GIVEN for c in cases]}
    found |= {name: [c.record.extra.get(name) or NOT_GIVEN for c in cases] for name in names}
    found["file format"] = [c.record.path.suffix.lower() or NOT_GIVEN for c in cases]
    found["scale, µm per pixel"] = [
        f"{c.result.pyramid.mpp_x:.2f}" if c.result and c.result.pyramid else NOT_GIVEN for c in cases
    ]
    grouped = {}
    for name, values in found.items():
        given = [v for v in values if v != NOT_GIVEN]
        kinds = set(given)
        if not kinds or (len(kinds) > 2 and len(kinds) >= 0.8 * len(given)):
            continue
        grouped[name] = _thirds(values) if len(kinds) > _MOST_VALUES and _numeric(given) else values
    return grouped


def _numeric(values: Sequence[str]) -> bool:
    try:
        [float(v) for v in values]
    except ValueError:
        return False
    return True


def _thirds(values: Sequence[str]) -> list[str]:
    """Return each number's third by the numbers that bound it."""
    numbers = np.array([float(v) for v in values if v != NOT_GIVEN])
    one, two = np.percentile(numbers, [100 / 3, 200 / 3])

    def third(v: str) -> str:
        if v == NOT_GIVEN:
            return NOT_GIVEN
        x = float(v)
        return f"up to {one:g}" if x <= one else f"{one:g} to {two:g}" if x <= two else f"above {two:g}"

    return [third(v) for v in values]


def population(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Return for every column how many slides of each label have each value, missing ones as `not given`."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for name, values in columns_of(cohort.cases).items():
        common = [v for v, _ in Counter(values).most_common(_LISTED)]
        table[name] = {
            value: {
                label: sum(v == value and c.record.label == label for v, c in zip(values, cohort.cases, strict=True))
                for label in cohort.labels
            }
            for value in common
        }
    return table


def subgroups(cohort: Cohort) -> list[dict[str, Any]]:
    """Return accuracy, balanced accuracy, share in review and false calls of every group; small ones say so."""
    rows = []
    for name, values in columns_of(cohort.cases).items():
        if len(set(values)) < 2:
            continue
        for value, n in Counter(values).most_common():
            group = [c for c, v in zip(cohort.cases, values, strict=True) if v == value]
            row: dict[str, Any] = {"column": name, "value": value, "n": n}
            row["patients"] = len({c.record.patient for c in group if c.record.patient})
            rows.append(row | ({"insufficient": True} if n < FEWEST else _figures(group, cohort)))
    return rows


def _figures(group: Sequence[Case], cohort: Cohort) -> dict[str, Any]:
    hits = [sum(c.right for c in group if c.record.label == label) for label in cohort.labels]
    counts = [sum(c.record.label == label for c in group) for label in cohort.labels]
    return {
        "insufficient": False,
        "accuracy": share(sum(hits), len(group)),
        "balanced_accuracy": mean_of_shares(hits, counts),
        "review": share(sum(c.status == "review" for c in group), len(group)),
    }


def false_calls(cohort: Cohort, column: str = "kind") -> dict[str, Any]:
    """Return how often a lesion was called on slides that have none, over all with a verdict and by `column`.

    `confident` counts those that nobody was asked to review. The worst kind is the one with the highest share among
    kinds of at least ten slides; `confounders` are the kinds whose name begins so (see `histo phantom`).
    """
    normal = [c for c in cohort.cases if c.record.label == cohort.labels[0]]
    kinds: dict[str, list[Case]] = {}
    for c in normal:
        kinds.setdefault(c.record.extra.get(column) or NOT_GIVEN, []).append(c)
    rows = [{"kind": kind} | _false(cohort, group) for kind, group in sorted(kinds.items())]
    confounders = [c for kind, group in kinds.items() if kind.startswith("confounder") for c in group]
    large = [r for r in rows if r["any"]["n"] >= FEWEST and str(r["kind"]).startswith("confounder")]
    worst = max(large, key=lambda r: r["any"]["value"], default=None)
    return {"column": column, "all": _false(cohort, normal), "confounders": _false(cohort, confounders)} | {
        "by_kind": rows,
        "worst": worst,
    }


def _false(cohort: Cohort, group: Sequence[Case]) -> dict[str, Any]:
    judged = [c for c in group if c.verdict]
    wrong = [c for c in judged if not c.right]
    return {
        "any": share(len(wrong), len(judged)),
        "confident": share(sum(c.status == "done" for c in wrong), len(judged)),
        "review": share(sum(c.status == "review" for c in judged), len(judged)),
    }


def several_classes(cohort: Cohort, holds: Sequence[Mapping[str, bool | None]]) -> dict[str, Any]:
    """Return how often the verdict of slides that hold several classes is that of the first in precedence."""
    mixed = [(c, h) for c, h in zip(cohort.cases, holds, strict=True) if sum(v is True for v in h.values()) > 1]
    named = sum(c.verdict is not None and all(_reported(c, name) for name, v in h.items() if v) for c, h in mixed)
    return {
        "right": share(sum(c.right for c, _ in mixed), len(mixed)),
        "all_classes_named": share(named, len(mixed)),
        "in_review": share(sum(c.status == "review" for c, _ in mixed), len(mixed)),
    }


def _reported(case: Case, class_name: str) -> bool:
    return case.result is not None and any(b.class_name == class_name and b.count for b in case.result.burdens)
