"""The manifest of labelled slides (slides.csv): one row a slide; every problem is reported at once.

`read_manifest` looks at the table and at the files' names, sizes and, where two could be copies, contents; it opens no
slide. What needs the slides is checked by `histo.data.manifest_check`.
"""

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from histo.data.findings import Finding
from histo.data.identities import told_apart
from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.geometry import is_credible_mpp
from histo.timing import Say

REQUIRED = ("slide", "path", "patient", "label")
OPTIONAL = ("annotation", "mpp", "split", "site")
SPLITS = ("train", "validation", "test")
# Of phantoms, and of studies: no other name for one of ours.
STUDY = ("group", "kind", "domain", "seed", "mask", "twin_of", "varied", "diameter_um")
OUTLINES = (".geojson", ".xml", ".ndpa", ".json", ".mask.tif")  # what outlines are kept in; beside a slide, best first
# What a person has once, so that two values on two lines are a slip.
ONCE_A_PATIENT = ("sex", "gender", "birth_year", "date_of_birth", "skin_type", "site")
_NUMBER = re.compile(r"0*(\d+)(?:\.0+)?")  # what a spreadsheet makes of a code

Rows = list[tuple[int, SlideRecord]]  # with their lines


def read_manifest(path: Path, labels: Sequence[str], say: Say = lambda line: None) -> list[SlideRecord]:
    """Read a manifest; paths in it count from its own folder. Warnings of its table are said.

    Raises `UsageError` that lists every problem with its line: missing columns and cells, unknown labels, files
    that are not there, a slide twice, one patient on both sides of a split.
    """
    rows, findings = inspect_manifest(path, labels)
    problems = [str(f) for f in findings if f.severity == "error"]
    if problems:
        raise UsageError(f"manifest {path} has {len(problems)} problem(s): " + "; ".join(problems))
    for finding in findings:
        say(str(finding))
    return [record for _, record in rows]


def inspect_manifest(path: Path, labels: Sequence[str]) -> tuple[Rows, list[Finding]]:
    """Return the rows whose slide is there, with their lines, and everything that is wrong with the table.

    What is wrong in a row is left out of its record (an impossible scale) or stands in it as it is (an unknown label).
    Raises `UsageError` when the file as a whole is no manifest.
    """
    columns, lines = _table(path)
    findings: list[Finding] = []
    rows: Rows = []
    for line, cells in lines:
        if len(cells) > len(columns):
            problem = "more cells than columns (a comma inside a cell needs quotes around the cell)"
            findings.append(_error(line, "row", problem))
            continue
        problems, record = _record(dict(zip_longest(columns, cells, fillvalue="")), path.parent, labels)
        findings += [_error(line, "cell", p) for p in problems]
        if record is not None:
            rows.append((line, record))
    findings += _misnamed(columns, [cells for _, cells in lines])
    findings += _twice(rows)
    findings += _spelling(rows)
    findings += _patients(rows)
    findings += _copies(rows)
    return rows, findings


def _error(line: int, kind: str, message: str) -> Finding:
    return Finding("error", kind, f"line {line}", message)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = [name.strip().casefold() for name in next(lines, [])]
            rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except OSError as error:
        raise UsageError(f"manifest {path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"manifest {path} is not a UTF-8 CSV file ({error}); save it again as CSV (UTF-8)") from error
    missing = [c for c in REQUIRED if c not in columns]
    if missing:
        raise UsageError(
            f"manifest {path} lacks the column(s) {', '.join(missing)}; the first line must name "
            f"{', '.join(REQUIRED)} and may name {', '.join(OPTIONAL)}, separated by commas"
        )
    twice = sorted({c for c in columns if c and columns.count(c) > 1})
    if twice:
        raise UsageError(f"manifest {path} has the column(s) {', '.join(twice)} twice; keep one of each")
    if not rows:
        raise UsageError(f"manifest {path} lists no slides; give one line a slide")
    return columns, rows


def _record(row: dict[str, str], folder: Path, labels: Sequence[str]) -> tuple[list[str], SlideRecord | None]:
    cell = {name: text.strip() for name, text in row.items()}
    problems = [f"no {name}" for name in REQUIRED if not cell[name]]
    if cell["label"] and cell["label"] not in labels:
        problems.append(f"unknown label {cell['label']!r}, known are {', '.join(labels)}")
    slide = folder / cell["path"]
    annotation = folder / cell["annotation"] if cell.get("annotation") else None
    files = [f for f in (slide if cell["path"] else None, annotation) if f is not None]
    problems += [
        f"{f} is a folder; name the file in it" if os.path.isdir(f) else f"{f} does not exist"
        for f in files
        if not _is_file(f)
    ]
    split = cell.get("split") or None
    if split is not None and split not in SPLITS:
        problems.append(f"unknown split {split!r}, known are {', '.join(SPLITS)}")
    mpp = None
    if cell.get("mpp"):
        try:
            mpp = float(cell["mpp"].replace(",", "."))
        except ValueError:
            mpp = -1.0
        if not is_credible_mpp(mpp):
            problems.append(f"mpp {cell['mpp']!r} is not µm per pixel from 0.05 to 5")
    if not (cell["path"] and _is_file(slide)):
        return problems, None
    extra = {name: text for name, text in cell.items() if name and name not in REQUIRED + OPTIONAL}
    site = cell.get("site") or None
    annotation = annotation if annotation and _is_file(annotation) else None
    mpp = mpp if mpp and is_credible_mpp(mpp) else None
    record = SlideRecord(cell["slide"], slide, cell["patient"], cell["label"], annotation, mpp, split, site, extra)
    return problems, record


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
        return False


# By name and values: what would be a column of ours if it were called so.
_LOOKS_LIKE: dict[str, Callable[[str, Collection[str]], bool]] = {
    "split": lambda name, values: set(values) <= set(SPLITS),
    "annotation": lambda name, values: all(value.lower().endswith(OUTLINES) for value in values),
    "mpp": lambda name, values: name.startswith("mpp"),
    "site": lambda name, values: name.startswith("site"),
}


def _misnamed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Find columns of the manifest's own that look like one of histo's under another name: they are not heeded."""
    filled = {name for k, name in enumerate(columns) if any(cells[k].strip() for cells in rows if k < len(cells))}
    for k, name in enumerate(columns):
        if name in REQUIRED + OPTIONAL + STUDY:
            continue
        values = {cells[k].strip() for cells in rows if k < len(cells)} - {""}
        if not name:
            if values:
                yield Finding("warning", "column", "line 1", f"column {k + 1} has no name and is not read; give it one")
            continue
        meant = next((ours for ours, fits in _LOOKS_LIKE.items() if values and fits(name, values)), None)
        if meant is not None and meant not in filled:
            text = f"{name} is taken as a column of your own; if {meant} is meant, call it so"
            yield Finding("warning", "column", "line 1", text)


def _twice(rows: Rows) -> list[Finding]:
    """Find slides, files and annotations that stand on two lines."""
    findings = []
    first: dict[tuple[str, str], int] = {}
    for line, r in rows:
        named = [("path", str(r.path.resolve()))]
        if r.slide:
            named.append(("slide", told_apart(r.slide)))
        if r.annotation:
            named.append(("annotation", str(r.annotation.resolve())))
        for kind, value in named:
            earlier = first.setdefault((kind, value), line)
            if earlier != line:
                findings.append(_error(line, "twice", f"the same {kind} as in line {earlier}"))
    return findings


def _spelling(rows: Rows) -> list[Finding]:
    """Find patients and sites under two spellings, and patients that are one as numbers."""
    findings: list[Finding] = []
    spelt: dict[tuple[str, str], tuple[str, int]] = {}
    counted: dict[str, tuple[str, int]] = {}
    for line, r in rows:
        for kind, name in (("patient", r.patient), ("site", r.site)):
            if not name:
                continue
            earlier, at = spelt.setdefault((kind, told_apart(name)), (name, line))
            if earlier != name:
                problem = f"{kind} {name!r} is {earlier!r} in line {at}; spell a {kind} one way"
                findings.append(_error(line, "spelling", problem))
        if number := _NUMBER.fullmatch(r.patient):
            earlier, at = counted.setdefault(number[1], (r.patient, line))
            if told_apart(earlier) != told_apart(r.patient):
                said = f"patient {r.patient!r} is {earlier!r} in line {at} as a number; are these one patient?"
                findings.append(Finding("warning", "spelling", f"line {line}", said))
    return findings


def _patients(rows: Rows) -> list[Finding]:
    """Find patients on both sides of a split, or with two values of what a person has once."""
    findings: list[Finding] = []
    of: dict[str, Rows] = defaultdict(list)
    for line, r in rows:
        if r.patient:
            of[r.patient].append((line, r))
    for patient, theirs in of.items():
        splits = {r.split or "no split" for _, r in theirs}
        if len(splits) > 1:
            lines = ", ".join(str(line) for line, _ in theirs)
            message = f"is in {' and '.join(sorted(splits))} (lines {lines}); a patient belongs to one side"
            findings.append(Finding("error", "split", f"patient {patient}", message))
        for column in ONCE_A_PATIENT:
            values = {(r.site or "") if column == "site" else r.extra.get(column, "") for _, r in theirs} - {""}
            if len(values) > 1:
                message = f"has {column} {' and '.join(sorted(values))}; are these two patients?"
                findings.append(Finding("warning", "two_values", f"patient {patient}", message))
    return findings


def _copies(rows: Rows) -> list[Finding]:
    """Find the same content under two names; only files of one size need to be read for that."""
    by_size: dict[int, Rows] = defaultdict(list)
    for line, record in {r.path.resolve(): (line, r) for line, r in reversed(rows)}.values():
        by_size[record.path.stat().st_size].append((line, record))
    findings = []
    for files in by_size.values():
        first: dict[str, int] = {}
        for line, record in sorted(files, key=lambda f: f[0]) if len(files) > 1 else []:
            try:
                with open(record.path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                findings.append(_error(line, "unreadable", f"{record.path} cannot be read ({error.strerror})"))
                continue
            earlier = first.setdefault(digest, line)
            if earlier != line:
                findings.append(_error(line, "same_content", f"the same content as in line {earlier}"))
    return findings
