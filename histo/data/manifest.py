"""The manifest of labelled slides (slides.csv): one row a slide; every problem is reported at once."""

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
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
    if not rows:
        raise UsageError(f"manifest {path} lists no slides; give one line a slide")
    problems: list[str] = []
    records = []
    for line, row in rows:
        found, record = _record(row, path.parent, labels)
        problems += [f"line {line}: {p}" for p in found]
        if record is not None:
            records.append((line, record))
    problems += _contradictions(records)
    if problems:
        raise UsageError(f"manifest {path} has {len(problems)} problem(s): " + "; ".join(problems))
    return [record for _, record in records]


def _record(row: dict[str, str], folder: Path, labels: Sequence[str]) -> tuple[list[str], SlideRecord | None]:
    cell = {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)}
    problems = [f"no {name}" for name in REQUIRED if not cell[name]]
    if cell["label"] and cell["label"] not in labels:
        problems.append(f"unknown label {cell['label']!r}, known are {', '.join(labels)}")
    slide = folder / cell["path"]
    annotation = folder / cell["annotation"] if cell.get("annotation") else None
    problems += [
        f"{f} does not exist" for f in (slide, annotation) if f is not None and not f.is_file() and cell["path"]
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
    if problems:
        return problems, None
    record = SlideRecord(
        cell["slide"], slide, cell["patient"], cell["label"], annotation, mpp, split, cell.get("site") or None
    )
    return [], record


def _contradictions(records: Iterable[tuple[int, SlideRecord]]) -> list[str]:
    problems = []
    first_line: dict[tuple[str, str], int] = {}
    splits: dict[str, set[str]] = defaultdict(set)
    for line, r in records:
        for kind, value in (("slide", r.slide), ("path", str(r.path.resolve()))):
            earlier = first_line.setdefault((kind, value), line)
            if earlier != line:
                problems.append(f"line {line}: the same {kind} as in line {earlier}")
        if r.split:
            splits[r.patient].add(r.split)
    problems += [f"patient {p} is in {' and '.join(sorted(s))}" for p, s in splits.items() if len(s) > 1]
    return problems


def split_by_patient(
    records: Sequence[SlideRecord], share: float, seed: int
) -> tuple[list[SlideRecord], list[SlideRecord]]:
    """Split into training and validation slides, whole patients only, every label on both sides.

    Rows with a `split` keep it (`test` rows are left out); the others are drawn by patient, stratified by the
    patient's rarest label. Raises `UsageError` when a label has fewer than two patients.
    """
    fixed = [r for r in records if r.split in ("train", "validation")]
    free = [r for r in records if r.split is None]
    count: dict[str, int] = defaultdict(int)
    for r in records:
        count[r.label] += 1
    rarest: dict[str, str] = {}
    for r in free:
        rarest[r.patient] = min((rarest.get(r.patient, r.label), r.label), key=lambda label: (count[label], label))
    by_label: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(rarest):
        by_label[rarest[patient]].append(patient)
    validation: set[str] = set()
    for label, patients in sorted(by_label.items()):
        if len(patients) < 2:
            raise UsageError(
                f"label {label} has 1 patient only; at least 2 are needed to train on one and test on another"
            )
        random.Random(f"{seed}/{label}").shuffle(patients)
        validation.update(patients[: max(1, round(share * len(patients)))])
    train = [r for r in fixed if r.split == "train"] + [r for r in free if r.patient not in validation]
    held_out = [r for r in fixed if r.split == "validation"] + [r for r in free if r.patient in validation]
    if not train or not held_out:
        raise UsageError("the manifest's splits leave no slide to train on or none to validate on; give both")
    return train, held_out
