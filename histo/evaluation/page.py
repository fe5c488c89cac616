"""The report as one self-contained HTML page, drawn from the same dictionary that report.json holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histo.evaluation.cases import Case, Cohort
from histo.evaluation.figures import (
    Picture,
    draw_areas,
    draw_coverage_risk,
    draw_decisions,
    draw_foreign,
    draw_froc,
    draw_learning_curve,
    draw_reliability,
    draw_roc,
    draw_sizes,
)
from histo.evaluation.gallery import SHOWN, pictures_of
from histo.export.pages import href, picture_uri, render
from histo.files import write_text

_CHECKLISTS = {"claim": "CLAIM 2024", "tripod_ai": "TRIPOD+AI", "stard_ai": "STARD-AI"}


def write_page(path: Path, report: Mapping[str, Any], cohort: Cohort, aliases: Mapping[str, str]) -> None:
    """Write the page; its pictures are inside, and links to the slides' own reports are relative to it."""
    page = render(
        "evaluation.html.j2",
        r=report,
        plots={
            name: picture_uri(picture, "PNG") for name, picture in _plots(report, cohort).items() if picture is not None
        },
        gallery=_gallery(report, cohort, path.parent, aliases),
        gallery_limit=SHOWN,
        checklists=_CHECKLISTS,
        labels=cohort.labels,
        status_columns=list(next(iter(report["primary"]["status_by_label"].values()))),
    )
    write_text(path, page)


def _plots(report: Mapping[str, Any], cohort: Cohort) -> dict[str, Picture | None]:
    classes = report["localisation"]["classes"]
    model, abstained, familiar = cohort.model, report["abstention"], report["robustness"]["familiar"]
    return {
        "roc": draw_roc(_scores(report, cohort), model),
        "coverage_risk": draw_coverage_risk(abstained["coverage_risk"], abstained["decided"]["value"]),
        "reliability": draw_reliability(report["calibration"]["verdict"]["reliability"]),
        "froc": draw_froc({name: c["froc"] for name, c in classes.items()}, model),
        "sizes": draw_sizes({name: c["sizes"] for name, c in classes.items()}, model),
        "areas": draw_areas({name: c["area"] for name, c in classes.items()}, model),
        "learning_curve": draw_learning_curve(report["learning_curve"]),
        "foreign": draw_foreign(report["foreign"]["distances"], familiar["foreign_distances"]) if familiar else None,
        "decisions": draw_decisions(report["decision_curve"]["any lesion"]),
    }


def _scores(report: Mapping[str, Any], cohort: Cohort) -> dict[str, tuple[Any, Any]]:
    """Return probability and truth of every label for the ROC plot, over the slides with a verdict."""
    judged = [c for c in cohort.cases if c.verdict]
    return {
        label: (
            np.array([c.verdict.probability.get(label, 0.0) for c in judged if c.verdict]),
            np.array([c.record.label == label for c in judged], bool),
        )
        for label in cohort.labels[1:]
    }


def _gallery(
    report: Mapping[str, Any], cohort: Cohort, folder: Path, aliases: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return every wrongly judged slide with its pictures, the first ones of them."""
    by_slide: dict[str, Case] = {c.record.slide: c for c in cohort.cases}
    shown = []
    for number, row in enumerate(report["errors"]):
        case = by_slide[row["slide"]]
        overlay, fields = pictures_of(case, cohort.model.class_names, aliases) if number < SHOWN else (None, [])
        link = os.path.relpath(row["report"], folder.resolve()) if row["report"] else None
        shown.append(
            {
                "row": row,
                "link": href(link) if link else None,
                "overlay": None if overlay is None else picture_uri(overlay),
                "fields": [{"uri": picture_uri(f.rgb), "caption": f.caption} for f in fields],
            }
        )
    return shown
