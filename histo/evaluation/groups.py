"""Who was in the study, and how the figures differ between groups of slides."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histo.evaluation.cases import READER, STATUSES, Case, Cohort
from histo.evaluation.intervals import share
from histo.evaluation.resampling import Bootstrap, Mask

FEWEST = 10  # a smaller group gets no figure
_MOST_VALUES = 6  # of a number, before it becomes thirds
_MOSTLY = 0.9  # share of numbers that makes a column one of numbers
_MOST_DIGITS = 6  # a longer number is a code: a seed, an accession number
NOT_GIVEN = "not given"
_LISTED = 24


def flow(cohort: Cohort) -> dict[str, Any]:
    """Return patients, slides and statuses with the reasons, by split, and what was left out of all tables."""
    cases = cohort.cases
    splits = sorted({c.record.split or "no split" for c in cases})
    return {
        "patients": len({p for p in cohort.patients if p}),
        "slides_without_patient": sum(p is None for p in cohort.patients),
        "slides": len(cases),
        "set_aside": dict(cohort.set_aside),
        "columns_left_out": codes_of(cases),
        "results_of_no_listed_slide": cohort.foreign,
        "status": {s: sum(c.status == s for c in cases) for s in STATUSES},
        "reasons": _reasons(cases),
        "by_split": {
            split: {
                "patients": _patients([c for c in cases if (c.record.split or "no split") == split]),
                "slides": sum((c.record.split or "no split") == split for c in cases),
            }
            for split in splits
        },
        "by_label": {
            label: {
                "patients": _patients([c for c in cases if c.record.label == label]),
                "slides": sum(c.record.label == label for c in cases),
                "outlined": sum(c.record.annotation is not None for c in cases if c.record.label == label),
            }
            for label in cohort.labels
        },
        "tissue_mm2": {
            part: float(sum(getattr(c.result.areas, part) for c in cases if c.result and c.result.areas))
            for part in ("tissue_mm2", "scored_mm2", "unreadable_mm2", "excluded_mm2", "screened_mm2")
        },
    }


def _patients(cases: Sequence[Case]) -> int:
    return len({c.record.patient for c in cases if c.record.patient})


def _reasons(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return how often each reason code stands with each status, most frequent first."""
    found = Counter((c.status, r.code) for c in cases if c.result for r in c.result.reasons)
    return [{"status": status, "code": code, "slides": n} for (status, code), n in found.most_common()]


def columns_of(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Return the value of every column by which slides can be grouped: the manifest's own, site, format and scale.

    Numbers with many values become thirds; columns that name slides (see `codes_of`) are left out.
    """
    columns, codes = _columns(cases), codes_of(cases)
    grouped = {}
    for name, values in columns.items():
        given = [v for v in values if v != NOT_GIVEN]
        if given and name not in codes:
            grouped[name] = _thirds(values) if len(set(given)) > _MOST_VALUES and _numeric(given) else values
    return grouped


def codes_of(cases: Sequence[Case]) -> list[str]:
    """Return the columns that name slides rather than groups: long numbers, or nearly as many words as slides."""
    codes = []
    for name, values in _columns(cases).items():
        given = [v for v in values if v != NOT_GIVEN]
        kinds = set(given)
        named = any(v.isdigit() and len(v) > _MOST_DIGITS for v in given)
        if len(kinds) > 2 and (named or (len(kinds) >= 0.8 * len(given) and not _numeric(given))):
            codes.append(name)
    return codes


def _columns(cases: Sequence[Case]) -> dict[str, list[str]]:
    names = [n for n in dict.fromkeys(n for c in cases for n in c.record.extra) if not n.startswith(READER)]
    found = {"site": [c.record.site or NOT_GIVEN for c in cases]}
    found |= {name: [c.record.extra.get(name) or NOT_GIVEN for c in cases] for name in names}
    found["file format"] = [c.record.path.suffix.lower() or NOT_GIVEN for c in cases]
    found["scale, µm per pixel"] = [
        f"{c.result.pyramid.mpp_x:.2f}" if c.result and c.result.pyramid else NOT_GIVEN for c in cases
    ]
    return found


def _number(text: str) -> float | None:
    """Return a number, None for what is none; a comma stands for the point, or for thousands before three digits."""
    head, comma, tail = text.partition(",")
    try:
        value = float(text if not comma else head + tail if len(tail) == 3 else f"{head}.{tail}")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numeric(values: Sequence[str]) -> bool:
    """Tell whether a column holds numbers: nearly all are, the others something like `>89`."""
    return sum(_number(v.strip("<>≤≥~+ ")) is not None for v in values) >= _MOSTLY * len(values)


def _thirds(values: Sequence[str]) -> list[str]:
    """Return each number's third by the values that bound it; what is no number stays as it is."""
    numbers = [x for v in values if (x := _number(v)) is not None]
    one, two = np.quantile(numbers, [1 / 3, 2 / 3], method="inverted_cdf")

    def third(v: str) -> str:
        x = _number(v)
        if x is None:
            return v
        return f"up to {one:g}" if x <= one else f"above {one:g} to {two:g}" if x <= two else f"above {two:g}"

    return [third(v) for v in values]


def population(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Return for every column how many slides of each label have each value, missing ones as `not given`.

    Of a column with very many values the rarer ones are counted together.
    """
    table: dict[str, dict[str, dict[str, int]]] = {}
    for name, values in columns_of(cohort.cases).items():
        counts = Counter(values).most_common()
        common = [v for v, _ in counts[:_LISTED]]
        rest = [v for v, _ in counts[_LISTED:]]
        rows = {value: {value} for value in common} | ({f"{len(rest)} other values": set(rest)} if rest else {})
        table[name] = {
            row: {
                label: sum(v in those and c.record.label == label for v, c in zip(values, cohort.cases, strict=True))
                for label in cohort.labels
            }
            for row, those in rows.items()
        }
    return table


def subgroups(cohort: Cohort, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return accuracy, balanced accuracy and share in review of every group; small ones say so.

    A group that lacks a label has no balanced accuracy.
    """
    rows = []
    for name, values in columns_of(cohort.cases).items():
        if len(set(values)) < 2:
            continue
        for value, n in Counter(values).most_common():
            group = np.array([v == value for v in values], bool)
            row: dict[str, Any] = {"column": name, "value": value, "n": n}
            row["patients"] = _patients(cohort.where(group))
            rows.append(row | ({"insufficient": True} if n < FEWEST else _figures(group, cohort, bootstrap)))
    return rows


def _figures(group: Mask, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    labels = [group & (cohort.truth == k) for k in range(len(cohort.labels))]
    return {
        "insufficient": False,
        "accuracy": bootstrap.share(cohort.right, group),
        "balanced_accuracy": bootstrap.mean_of_shares(cohort.right, labels if all(own.any() for own in labels) else []),
        "review": bootstrap.share(cohort.has_status("review"), group),
    }


def false_calls(cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how often a lesion was called on slides that have none, over all with a verdict and by `kind`.

    `confident` counts those that nobody was asked to review. `confounders` are the slides that resemble a lesion, see
    `Cohort.look_alike`. The worst kind of them is the one with the highest share among those of at least ten slides.
    """
    normal = cohort.truth == 0
    named = np.array([cohort.look_alike(c) for c in cohort.cases])
    given = np.array([c.record.extra.get("kind") or NOT_GIVEN for c in cohort.cases])
    rows = [
        {"kind": kind, "look_alike": bool((named[of] != "").all())} | _false(cohort, of, bootstrap)
        for kind in sorted(set(given[normal].tolist()))
        if (of := normal & (given == kind)).any()
    ]
    large = [r for r in rows if r["any"]["n"] >= FEWEST and r["look_alike"]]
    return {
        "column": "kind",
        "all": _false(cohort, normal, bootstrap),
        "confounders": _false(cohort, normal & (named != ""), bootstrap),
        "by_kind": rows,
        "worst": max(large, key=lambda r: r["any"]["value"], default=None),
    }


def _false(cohort: Cohort, group: Mask, bootstrap: Bootstrap) -> dict[str, Any]:
    judged = group & cohort.judged
    return {
        "any": bootstrap.share(~cohort.right, judged),
        "confident": bootstrap.share(~cohort.right & cohort.has_status("done"), judged),
        "review": bootstrap.share(cohort.has_status("review"), judged),
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
