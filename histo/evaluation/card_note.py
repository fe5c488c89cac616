"""The figures of an evaluation that a model's card carries on."""

from collections.abc import Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says of an evaluation: banners, what pins it, and every headline figure with its interval."""
    places, calibration = report["localisation"], report["calibration"]
    return {
        "banners": [b["code"] for b in report["banners"]],
        "slides": report["flow"]["slides"],
        "patients": report["flow"]["patients"],
        "status": report["flow"]["status"],
        "manifest_sha256": report["reference"]["manifest_sha256"],
        "balanced_accuracy": report["primary"]["overall"]["balanced_accuracy"],
        "confusion": report["primary"]["confusion"],
        "auroc": {name: f["auroc"] for name, f in report["ranking"]["classes"].items()},
        "several_classes": report["several_classes"]["right"],
        "false_calls": {k: report["false_calls"][k]["any"] for k in ("all", "confounders")},
        "false_lesions": places["false_lesions"],
        "dice": {name: c["dice"] for name, c in places["classes"].items()},
        "median_area_error": {name: c["area"]["median_error"] for name, c in places["classes"].items()},
        "needles": {f"{row['diameter_um']:g} µm": row["found"] for row in places["needles"]["by_diameter"]},
        "calibration_error": calibration["verdict"]["ece"],
        "conformal_coverage": calibration["conformal"]["coverage"],
        "conformal_coverage_certified": calibration["conformal"]["certified"]["coverage"],
        "conformal_coverage_worst_label": calibration["conformal"]["certified"]["worst"],
        "in_review": report["abstention"]["review"],
    }
