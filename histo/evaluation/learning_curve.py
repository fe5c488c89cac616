"""How much more slides to learn from would bring: this evaluation beside those of models that learnt from fewer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from histo.errors import UsageError
from histo.evaluation.other_reports import labels_of, read_report


def learning_curve(report: Mapping[str, Any], others: Sequence[Path]) -> list[dict[str, Any]]:
    """Return balanced accuracy by the number of patients learnt from, fewest first, this report's model among them.

    `others` are `report.json` files, or their folders, of other models judged on the same slides. Empty without
    others. Raises `UsageError` for a file that is no such report, and where a training's patients are not on record.
    """
    if not others:
        return []
    slides = report["reference"]["slides_sha256"]
    points = [_point(report, "this evaluation")]
    for path in others:
        other = read_report(path)
        if other["reference"]["slides_sha256"] != slides:
            raise UsageError(f"{path} judges other slides or labels; a learning curve needs the same throughout")
        if labels_of(other) != labels_of(report):
            raise UsageError(f"{path} has slides of other labels; balanced accuracies are means over the same")
        if other["freeze"]["digest"] in [p["digest"] for p in points]:
            raise UsageError(f"{path} is of a model that is in the curve already; leave it out")
        points.append(_point(other, str(path)))
    return sorted(points, key=lambda p: p["patients"])


def _point(report: Mapping[str, Any], where: str) -> dict[str, Any]:
    learnt = report["partitions"].get("patients_learnt_from")
    if not learnt:
        raise UsageError(
            f"{where} does not say how many patients its model learnt from; evaluate with "
            "--model BUNDLE, the bundle in the folder of its training"
        )
    return {
        "patients": learnt,
        "model": report["freeze"]["model"],
        "digest": report["freeze"]["digest"],
        "balanced_accuracy": report["primary"]["overall"]["balanced_accuracy"],
    }
