"""From what size on a lesion is found: shares by diameter, and the diameters found half the time and 19 times of 20."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from histo.evaluation.cases import Case, Cohort
from histo.evaluation.intervals import share
from histo.evaluation.localisation import Found, Located
from histo.evaluation.logistic import fit_curve

EDGES_UM = (0.0, 50.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, np.inf)
_SET = re.compile(r"diameter_um\s*=\s*([0-9.]+)")


def by_size(lesions: Sequence[Found]) -> dict[str, Any]:
    """Return the share of true lesions that were reported, by the diameter of a disc of their area, and the curve."""
    bins = []
    for low, high in itertools.pairwise(EDGES_UM):
        inside = [one for one in lesions if low <= one.diameter_um < high]
        if inside:
            bins.append(
                {"from_um": low, "to_um": high if np.isfinite(high) else None}
                | {"share": share(sum(one.reported for one in inside), len(inside))}
            )
    diameters = np.array([one.diameter_um for one in lesions])
    return {"bins": bins} | detection_curve(diameters, [one.reported for one in lesions])


def detection_curve(diameters_um: Sequence[float] | np.ndarray, found: Sequence[bool]) -> dict[str, Any]:
    """Return the diameters (µm) that a logistic curve on the logarithm finds half the time and in 95 of 100.

    None where the curve cannot be fitted: nothing missed, nothing found, or size separating the two exactly.
    """
    x = np.log2(np.maximum(np.asarray(diameters_um, float), 1e-3))
    curve = fit_curve(x, np.asarray(found, bool))
    d50, d95 = (curve.at(0.5), curve.at(0.95)) if curve else (None, None)
    # Beyond every size that was seen a curve is only a guess.
    known = [d for d in (d50, d95) if d is not None and x.min() - 1 <= d <= x.max() + 1] if len(x) else []
    return {
        "n": len(x),
        "d50_um": 2**d50 if d50 in known and d50 is not None else None,
        "d95_um": 2**d95 if d95 in known and d95 is not None else None,
        "intercept": curve.intercept if curve else None,
        "slope_per_doubling": curve.slope if curve else None,
    }


def needles(cohort: Cohort, located: Sequence[Sequence[Located] | None]) -> dict[str, Any]:
    """Return the share of slides with one deposit of a set diameter on which it was found, by that diameter.

    The diameter is the manifest's column `diameter_um`, or `…diameter_um=…` in `varied` (as `histo phantom` writes
    it). `found`: a reported lesion touches the truth; `confident` of these without review; `found_in_review` the
    others; `missed_without_review`: not found, and nobody was asked to look. A slide without a map counts as missed;
    one that nobody outlined is `left_out`: where its deposit lies is not known. A slide of the normal label holds none,
    such as the twin of a phantom that was made without its lesion.
    """
    groups: dict[float, list[tuple[Case, bool]]] = {}
    left_out = 0
    for case, slide in zip(cohort.cases, located, strict=True):
        diameter = set_diameter(case) if case.record.label != cohort.labels[0] else None
        # With an outline file and a verdict, nothing but what is to be ignored was drawn.
        if diameter is not None and slide is None and (case.record.annotation is None or case.verdict):
            left_out += 1
        elif diameter is not None:
            hit = any(one.reported for part in slide or () for one in part.lesions)
            groups.setdefault(diameter, []).append((case, hit))
    rows = [
        {
            "diameter_um": diameter,
            "found": share(sum(hit for _, hit in group), len(group)),
            "confident": share(sum(hit and c.status == "done" for c, hit in group), len(group)),
            "found_in_review": share(sum(hit and c.status != "done" for c, hit in group), len(group)),
            "missed_without_review": share(sum(not hit and c.status == "done" for c, hit in group), len(group)),
            "verdict_right": share(sum(c.right for c, _ in group), len(group)),
        }
        for diameter, group in sorted(groups.items())
    ]
    every = [(d, hit) for d, group in groups.items() for _, hit in group]
    curve = detection_curve([d for d, _ in every], [hit for _, hit in every])
    return {"by_diameter": rows, "left_out": left_out} | curve


def set_diameter(case: Case) -> float | None:
    """Return the diameter that a slide's only deposit was made with, in µm, where the manifest says it."""
    extra = case.record.extra
    text = extra.get("diameter_um", "")
    match = _SET.search(extra.get("varied", ""))
    try:
        return float(text) if text else float(match[1]) if match else None
    except ValueError:
        return None
