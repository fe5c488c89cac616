"""Localisation over a cohort: every slide measured once, then overlap, FROC, sizes, areas and pointing by class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.data.annotations import NO_ALIASES
from histo.errors import UsageError
from histo.evaluation.burden import area_agreement
from histo.evaluation.cases import Case, Cohort
from histo.evaluation.froc import froc
from histo.evaluation.heatmaps import read_heatmap
from histo.evaluation.intervals import share
from histo.evaluation.localisation import LEVELS, Located, locate
from histo.evaluation.ranking import average_precision
from histo.evaluation.resampling import Bootstrap, percentiles
from histo.evaluation.sizes import by_size, needles
from histo.evaluation.strongest import strongest
from histo.evaluation.truth import Unannotated, classes_of, draw_truth
from histo.results import ModelInfo

Held = Mapping[str, bool | None]


def measure(
    case: Case, model: ModelInfo, aliases: Mapping[str, str] = NO_ALIASES, unannotated: Unannotated = "normal"
) -> tuple[Held, list[Located] | None]:
    """Return which classes a slide holds, and its measures by class; None where truth or geometry is not known."""
    drawn = draw_truth(case, model, aliases, unannotated)
    held = classes_of(case, model, drawn, unannotated)
    if drawn is None:
        return held, None
    heatmap = None
    if case.folder and case.result and case.result.pyramid and "heatmap" in case.result.files:
        heatmap = read_heatmap(case.folder / case.result.files["heatmap"], case.result.pyramid)
        if len(heatmap.values) != len(model.class_names):
            raise UsageError(
                f"{case.folder} holds a heatmap of other classes than its model's; examine the slide again"
            )
    return held, locate(case, model, drawn, heatmap)


def measure_all(
    cohort: Cohort,
    aliases: Mapping[str, str],
    progress: Callable[[int, int], None],
    unannotated: Unannotated = "normal",
) -> tuple[list[Held], list[list[Located] | None]]:
    """Measure every slide of a cohort in turn."""
    held, located = [], []
    for number, case in enumerate(cohort.cases, start=1):
        one, places = measure(case, cohort.model, aliases, unannotated)
        held.append(one)
        located.append(places)
        progress(number, len(cohort.cases))
    return held, located


def localisation(cohort: Cohort, located: Sequence[list[Located] | None], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return everything that masks allow to say, by class; slides without outlines or geometry are counted apart."""
    rows = np.array([k for k, one in enumerate(located) if one is not None], np.int64)
    mapped = np.array([all(part.has_map for part in one) for one in located if one is not None], bool)
    # Of a slide without a map nothing is false, which says nothing for the model.
    normal = (cohort.truth[rows] == 0) & mapped
    found: dict[str, Any] = {
        "slides": len(rows),
        "not_measured": len(located) - len(rows),
        "without_map": int((~mapped).sum()),
        "partly_outlined": sum(not all(part.complete for part in one) for one in located if one is not None),
        "classes": {},
        "false_lesions": _false_lesions(located, cohort),
        "needles": needles(cohort, located),
    }
    for number, rule in enumerate(cohort.model.classes):
        slides = [places[number] for k in rows if (places := located[k]) is not None]
        found["classes"][rule.name] = _of_class(slides, rows, normal, bootstrap)
    return found


def _of_class(
    slides: Sequence[Located], rows: NDArray[np.int64], normal: NDArray[np.bool_], bootstrap: Bootstrap
) -> dict[str, Any]:
    counted = [one for s in slides for one in s.lesions if one.counts]
    pointed = [s.pointing for s in slides if s.pointing is not None]
    return {
        "area_found": _mean([s.area_found for s in slides], rows, bootstrap),
        "dice": _mean([s.dice for s in slides], rows, bootstrap),
        "iou": _mean([s.iou for s in slides], rows, bootstrap),
        "hd95_um": _mean([s.hd95_um for s in slides], rows, bootstrap),
        "lesions_reported": share(sum(one.reported for one in counted), len(counted)),
        "pointing_game": share(sum(pointed), len(pointed)),
        "strongest": strongest(slides),
        "froc": froc(slides, normal, bootstrap, rows),
        "sizes": by_size([one for s in slides for one in s.lesions]),
        "area": area_agreement(slides, bootstrap, rows),
        "map_auprc": _map_auprc(slides, rows, bootstrap),
    }


def _mean(values: Sequence[float | None], rows: NDArray[np.int64], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return mean and median over the slides that have a value, with the interval of the mean by patient."""
    kept = [k for k, v in enumerate(values) if v is not None]
    known = np.array([float(v) for v in values if v is not None])
    if not kept:
        return {"value": None, "median": None, "n": 0, "patient_low": None, "patient_high": None}
    weights = bootstrap.weights[:, rows[kept]]
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = percentiles((weights @ known) / weights.sum(axis=1))
    low, high = interval or (None, None)
    return {"value": float(known.mean()), "median": float(np.median(known)), "n": len(kept)} | {
        "patient_low": low,
        "patient_high": high,
    }


def _map_auprc(slides: Sequence[Located], rows: NDArray[np.int64], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the area under the precision-recall curve over the map's cells, each weighing its area."""
    histograms = np.stack([s.histogram for s in slides]) if slides else np.zeros((0, 2, LEVELS))
    total, count = histograms.sum(axis=0), sum(s.complete for s in slides)
    if not total[1].sum() > 0:
        return {"value": None, "prevalence": None, "n": count}
    # Of slides without a map nobody knows how much tissue they hold.
    mapped = sum((s.histogram for s in slides if s.has_map), np.zeros((2, LEVELS)))
    scores = np.tile(np.arange(LEVELS, dtype=float), 2)
    positive = np.repeat([False, True], LEVELS)
    drawn = bootstrap.weights[:, rows] @ histograms.reshape(len(slides), -1)
    interval = percentiles(average_precision(scores, positive, drawn))
    low, high = interval or (None, None)
    return {
        "value": float(average_precision(scores, positive, total.reshape(1, -1))[0]),
        "prevalence": float(mapped[1].sum() / mapped.sum()) if mapped.sum() else None,
        "n": count,
        "patient_low": low,
        "patient_high": high,
    }


def _false_lesions(located: Sequence[list[Located] | None], cohort: Cohort) -> dict[str, Any]:
    """Return lesions reported where there is none: on normal slides, plain normal ones, all.

    Slides without a map are left out, and those of which only what is outlined is known: nothing is false on them.
    """
    counts = [
        sum(part.false_lesions for part in one) if one and all(p.has_map and p.complete for p in one) else None
        for one in located
    ]
    normal = [n for n, t in zip(counts, cohort.truth, strict=True) if n is not None and t == 0]
    plain = [
        n
        for n, c in zip(counts, cohort.cases, strict=True)
        if n is not None and c.record.label == cohort.labels[0] and not cohort.look_alike(c)
    ]
    every = [n for n in counts if n is not None]
    return {
        name: {"value": float(np.mean(some)) if some else None, "n": len(some), "lesions": sum(some)}
        for name, some in (("per_normal_slide", normal), ("per_plain_normal_slide", plain), ("per_slide", every))
    }
