"""Reading what an earlier `histo evaluate` wrote, to put it beside this one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histo.errors import UsageError
from histo.out_folder import EVALUATION

SCHEMA = 4  # of report.json; 3: slides never examined count in localisation; 4: what pins the judged slides


def labels_of(report: Mapping[str, Any]) -> set[str]:
    """Return the labels that have slides: a balanced accuracy is the mean over these."""
    table = report["primary"]["confusion"]["counts"]
    return {label for label, row in zip(report["primary"]["labels"], table, strict=True) if sum(row)}


def read_report(path: Path) -> dict[str, Any]:
    """Return a `report.json`, given it, its folder, or the folder of the results that it judges.

    Raises `UsageError` for a file that is no such report.
    """
    places = [path / "report.json", path / EVALUATION / "report.json"] if path.is_dir() else [path]
    file = next((f for f in places if f.is_file()), places[0])
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _ = found["reference"]["manifest_sha256"], found["primary"]["overall"]["balanced_accuracy"]["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is no report of histo evaluate; give the folder that holds its report.json"
        ) from error
    if found.get("schema") != SCHEMA:
        raise UsageError(f"{file} was written by an older histo; run histo evaluate on these slides again")
    return found
