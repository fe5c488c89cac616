"""Splits on disk: a row a slide, a column a split; written once, read again by every later run."""

import csv
from collections.abc import Sequence
from pathlib import Path

from histo.data.records import SlideRecord
from histo.data.splits import Split
from histo.errors import UsageError
from histo.files import write_table

_IDENTITY = ("slide", "patient", "label")
_SIDES = ("train", "validation", "test")


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write splits of the same records, whole or not at all; slides stand in order of their names."""
    sides = [{r.slide: side for side, records in s.sides().items() for r in records} for s in splits]
    records = {r.slide: r for s in splits for some in s.sides().values() for r in some}
    rows = [
        [name, records[name].patient, records[name].label, *(of.get(name, "") for of in sides)]
        for name in sorted(records)
    ]
    write_table(path, [*_IDENTITY, *(s.name for s in splits)], rows)


def read_splits(path: Path, records: Sequence[SlideRecord]) -> list[Split]:
    """Read splits again for the records of the manifest that they were made from.

    Raises `UsageError` when the file cannot be read, names a side that there is not, breaks a patient over two sides,
    or no longer fits the manifest (slides added, taken away, or given another patient or label).
    """
    header, rows = _table(path)
    names = header[len(_IDENTITY) :]
    known = {r.slide: r for r in records}
    given = [row[0] for row in rows]
    wrong = sorted(set(known) ^ set(given)) + sorted({n for n in given if given.count(n) > 1})
    wrong += [n for n, p, label, *_ in rows if n in known and (known[n].patient, known[n].label) != (p, label)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UsageError(f"{path} does not fit the manifest (slide {wrong[0]}{more}); delete it to split anew")
    splits = []
    for column, name in enumerate(names, start=len(_IDENTITY)):
        sides: dict[str, list[SlideRecord]] = {side: [] for side in (*_SIDES, "")}
        for row in rows:
            if row[column] not in sides:
                raise UsageError(f"{path} puts slide {row[0]} in {row[column]!r}; known are {', '.join(_SIDES)}")
            sides[row[column]].append(known[row[0]])
        splits.append(Split(name, tuple(sides["train"]), tuple(sides["validation"]), tuple(sides["test"])))
    return splits


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file ({error}); delete it to split anew") from error
    if tuple(header[:3]) != _IDENTITY or len(header) < 4 or any(len(row) != len(header) for row in rows):
        raise UsageError(f"{path} is no file of splits (slide, patient, label and a column a split); delete it")
    return header, rows
