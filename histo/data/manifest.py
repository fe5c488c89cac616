"""The manifest of labelled slides (slides.csv): one row a slide; every problem is reported at once."""

import csv
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from histo.errors import UsageError
from histo.geometry import is_credible_mpp

REQUIRED = ("slide", "path", "patient", "label")
OPTIONAL = ("annotation", "mpp", "split", "site")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SlideRecord:
    """One row: `path` and `annotation` are absolute or relative to the working folder; `mpp` overrides the file's."""

    slide: str
    path: Path
    patient: str
    label: str
    annotation: Path | None = None
    mpp: float | None = None
    split: str | None = None
    site: str | None = None


def read_manifest(path: Path, labels: Sequence[str]) -> list[SlideRecord]:
    """Read a manifest; paths in it count from its own folder.

    Raises `UsageError` that lists every problem with its line: missing columns and cells, unknown labels, files
    that are not there, a slide twice, one patient on both sides of a split.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = [name.strip().casefold() for name in next(lines, [])]
            rows = [(lines.line_num, cells) for cells in lines if any(cells)]
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
    twice = sorted({c for c in columns if c in REQUIRED + OPTIONAL and columns.count(c) > 1})
    if twice:
        raise UsageError(f"manifest {path} has the column(s) {', '.join(twice)} twice; keep one of each")
    if not rows:
        raise UsageError(f"manifest {path} lists no slides; give one line a slide")
    problems: list[str] = []
    records = []
    for line, cells in rows:
        if len(cells) > len(columns):
            problems.append(
                f"line {line}: more cells than columns (a comma inside a cell needs quotes around the cell)"
            )
            continue
        row = dict(zip_longest(columns, cells, fillvalue=""))
        found, record = _record(row, path.parent, labels)
        problems += [f"line {line}: {p}" for p in found]
        if record is not None:
            records.append((line, record))
    problems += _contradictions(records)
    if problems:
        raise UsageError(f"manifest {path} has {len(problems)} problem(s): " + "; ".join(problems))
    return [record for _, record in records]


def _record(row: dict[str, str], folder: Path, labels: Sequence[str]) -> tuple[list[str], SlideRecord | None]:
    cell = {name: text.strip() for name, text in row.items()}
    problems = [f"no {name}" for name in REQUIRED if not cell[name]]
    if cell["label"] and cell["label"] not in labels:
        problems.append(f"unknown label {cell['label']!r}, known are {', '.join(labels)}")
    slide = folder / cell["path"]
    annotation = folder / cell["annotation"] if cell.get("annotation") else None
    files = [f for f in (slide if cell["path"] else None, annotation) if f is not None]
    problems += [f"{f} does not exist" for f in files if not _is_file(f)]
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
    if problems:
        return problems, None
    record = SlideRecord(
        cell["slide"], slide, cell["patient"], cell["label"], annotation, mpp, split, cell.get("site") or None
    )
    return [], record


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
        return False


def _contradictions(records: Sequence[tuple[int, SlideRecord]]) -> list[str]:
    problems = []
    first_line: dict[tuple[str, str], int] = {}
    splits: dict[str, set[str]] = defaultdict(set)
    for line, r in records:
        for kind, value in (("slide", r.slide), ("path", str(r.path.resolve()))):
            earlier = first_line.setdefault((kind, value), line)
            if earlier != line:
                problems.append(f"line {line}: the same {kind} as in line {earlier}")
        splits[r.patient].add(r.split or "no split")
    problems += [f"patient {p} is in {' and '.join(sorted(s))}" for p, s in splits.items() if len(s) > 1]
    return problems + _copies(records)


def _copies(records: Sequence[tuple[int, SlideRecord]]) -> list[str]:
    """Find the same content under two names; only files of one size need to be read for that."""
    by_size: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for line, path in {r.path.resolve(): (line, r.path) for line, r in reversed(records)}.values():
        by_size[path.stat().st_size].append((line, path))
    problems = []
    for files in by_size.values():
        first: dict[str, int] = {}
        for line, path in sorted(files) if len(files) > 1 else []:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            earlier = first.setdefault(digest, line)
            if earlier != line:
                problems.append(f"line {line}: the same content as in line {earlier}")
    return problems


def split_by_patient(
    records: Sequence[SlideRecord], share: float, seed: int
) -> tuple[list[SlideRecord], list[SlideRecord]]:
    """Split into training and validation slides, whole patients only, every label on both sides.

    Rows with a `split` keep it (`test` rows are left out); the others are drawn by patient, stratified by the
    patient's rarest label. Raises `UsageError` naming the label that one side would lack.
    """
    fixed = [r for r in records if r.split in ("train", "validation")]
    free = [r for r in records if r.split is None]
    held_back = _draw_patients(free, {(r.label, r.split) for r in fixed}, share, seed)
    train = [r for r in fixed if r.split == "train"] + [r for r in free if r.patient not in held_back]
    held_out = [r for r in fixed if r.split == "validation"] + [r for r in free if r.patient in held_back]
    used = [*fixed, *free]
    for label in sorted({r.label for r in used}):
        count = len({r.patient for r in used if r.label == label})
        for side, name in ((train, "train"), (held_out, "validate")):
            if label not in {r.label for r in side}:
                patients = f"{count} patient{'s' * (count != 1)}"
                raise UsageError(
                    f"label {label} has {patients} and would have none to {name} on; add patients of this label or "
                    "change the manifest's split column"
                )
    if not used:
        raise UsageError("the manifest has no slide to train or validate on; give some a split other than test")
    return train, held_out


def _draw_patients(
    free: Sequence[SlideRecord], fixed: Collection[tuple[str, str | None]], share: float, seed: int
) -> set[str]:
    """Return the patients to validate on; of every label at least one, and never all that could be trained on."""
    count = Counter(r.label for r in free)
    rarest: dict[str, str] = {}
    for r in free:
        rarest[r.patient] = min((rarest.get(r.patient, r.label), r.label), key=lambda label: (count[label], label))
    by_label: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(rarest):
        by_label[rarest[patient]].append(patient)
    chosen: set[str] = set()
    for label, patients in sorted(by_label.items()):
        random.Random(f"{seed}/{label}").shuffle(patients)
        least = 0 if (label, "validation") in fixed else 1
        most = len(patients) if (label, "train") in fixed else len(patients) - 1
        chosen.update(patients[: max(min(round(share * len(patients)), most), min(least, most))])
    return chosen
