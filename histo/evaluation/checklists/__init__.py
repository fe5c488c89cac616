"""The reporting checklists, filled from the report where it has the answer; an author's item is never marked done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from histo.files import write_table

AUTHOR = "AUTHOR MUST COMPLETE"
NAMES = ("claim", "tripod_ai", "stard_ai")
COLUMNS = ("item", "section", "topic", "whose", "answer")


def fill(name: str, answers: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the rows of a checklist; `answers` has a sentence for every part of the report.

    Raises `KeyError` for an item whose part no report has.
    """
    rows: list[tuple[str, ...]] = []
    for item, section, topic, part in _items(name):
        answer = AUTHOR if part == "author" else answers[part]
        whose = "author" if answer.startswith(AUTHOR) else "report and author" if AUTHOR in answer else "report"
        rows.append((item, section, topic, whose, answer))
    return rows


def write_checklists(folder: Path, answers: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Write `claim.csv`, `tripod_ai.csv` and `stard_ai.csv`; return how many items of each the author must answer."""
    counts = {}
    for name in NAMES:
        rows = fill(name, answers)
        write_table(folder / f"{name}.csv", COLUMNS, rows)
        counts[name] = {"items": len(rows), "author": sum(r[3] != "report" for r in rows)}
    return counts


def _items(name: str) -> Sequence[tuple[str, str, str, str]]:
    text = (Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
    return [(str(a), str(b), str(c), str(d)) for a, b, c, d in yaml.safe_load(text)]
