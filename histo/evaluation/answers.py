"""The sentences by which the checklists are answered, one for every part of the report."""

from collections.abc import Mapping
from typing import Any

from histo.evaluation.checklists import AUTHOR
from histo.evaluation.intervals import words


def answers_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return a sentence for every part of a report; parts that it lacks are the author's."""
    flow, freeze, overall = report["flow"], report["freeze"], report["primary"]["overall"]
    abstained, reference = report["abstention"], report["reference"]
    status = ", ".join(f"{n} {name}" for name, n in flow["status"].items())
    balanced = words(overall["balanced_accuracy"])
    training = freeze["card"].get("training") if freeze["card"] else None
    readers = report["comparators"]["reader_agreement"]
    return {
        "intended_use": f"{freeze['intended_use']} Research use only.",
        "flow": f"{flow['patients']} patients, {flow['slides']} slides: {status}; report.json, flow",
        "population": f"{len(report['population'])} columns of the manifest counted; report.json, population; "
        f"characteristics that the manifest lacks: {AUTHOR}",
        "missing": f"no slide is dropped: {flow['slides_without_patient']} without patient, "
        f"{flow['slides'] - flow['status']['done'] - flow['status']['review']} without verdict, counted as wrong",
        "reference": f"label column of the manifest (SHA-256 {reference['manifest_sha256']}); "
        f"{reference['outlined_slides']} slides outlined; how it was made: {AUTHOR}",
        "readers": f"{len(readers)} pairs of readers; report.json, comparators" if readers else AUTHOR,
        "partitions": report["partitions"]["sentence"],
        "sample_size": "; ".join(row["sentence"] for row in report["sample_size"]) + f"; intended size: {AUTHOR}",
        "model": f"{freeze['model']}, digest {freeze['digest']}; see its card.json",
        "training": f"{training.get('started', 'see card.json')}, seed {training.get('seed')}; card.json, training"
        if training
        else f"{AUTHOR} (give --model so that the card can be read)",
        "software": ", ".join(f"{k} {v}" for k, v in freeze["versions"].items()) + "; Apache-2.0",
        "settings": f"settings digest {freeze['settings_digest']}; engine {freeze['engine'] or 'not recorded'}",
        "thresholds": freeze["thresholds"],
        "freeze": f"model digest {freeze['digest']}, settings digest {freeze['settings_digest']}",
        "primary": f"balanced accuracy {balanced}; counts, sensitivity, specificity, PPV, NPV with both intervals: "
        "report.json, primary",
        "calibration": f"debiased error {_number(report['calibration']['verdict']['ece']['value'])}; "
        "report.json, calibration",
        "localisation": "lesion sizes and areas; report.json, localisation"
        if any(c["sizes"]["n"] for c in report["localisation"]["classes"].values())
        else f"{AUTHOR} (no slide is outlined)",
        "abstention": f"decided {words(abstained['decided'])}; worst case {words(abstained['worst_case_accuracy'])}",
        "subgroups": f"{len(report['subgroups'])} groups; report.json, subgroups; which were planned: {AUTHOR}",
        "errors": f"{len(report['errors'])} slides judged wrongly, each shown in report.html",
        "robustness": _robustness(report["robustness"]),
    }


def _robustness(found: Mapping[str, Any]) -> str:
    """Return what was tried: the change away from familiar slides, the stress tests that the card holds."""
    told = []
    if found["familiar"]:
        first = found["familiar"]["change"][0]
        told.append(f"{first['measure']} {_number(first['change']['value'])} against familiar slides")
    told += [f"stress tests {table['name']}" for table in found["stress"]]
    return "; ".join(told) + "; report.json, robustness" if told else f"{AUTHOR} (histo stress, --familiar)"


def _number(value: float | None) -> str:
    return "none to judge" if value is None else f"{value:.3f}"
