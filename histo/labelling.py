"""What `histo manifest` and `histo annotations` print and write."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histo.archive.listing import list_slides, name_slides
from histo.config import ClassesConfig, load_config
from histo.console import out, progress
from histo.data.annotation_lint import areas_mm2, lint
from histo.data.annotations import Vocabulary, read_objects
from histo.data.findings import Finding, shorten
from histo.data.manifest import OPTIONAL, OUTLINES, REQUIRED, read_manifest
from histo.data.manifest_check import check_manifest
from histo.data.overview import read_overview
from histo.data.records import SlideRecord
from histo.data.slide import Slide, open_slide
from histo.data.splits import hold_out
from histo.data.tissue import find_tissue
from histo.errors import SlideError, SlideRefused, UsageError
from histo.files import path_text, write_table
from histo.geometry import Pyramid
from histo.infer import load_model

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
COLUMNS = (*REQUIRED, *OPTIONAL)
_PACKED = (".geojson.gz", ".geojson.zip")  # as QuPath exports on request
_OUTLINES_ALONE = (".geojson", ".ndpa", *_PACKED)  # other files of a slide may hold anything, and go unmentioned


@dataclass(frozen=True)
class Meaning:
    """The classes, which of them other words of annotation files mean, and whether outlined slides are so in full."""

    classes: ClassesConfig
    aliases: Mapping[str, str]
    complete: bool = True


def meaning_of(config: Path | None, more: Sequence[str]) -> Meaning:
    """Return what a training configuration means, or else the shipped model's classes, with `WORD=class` pairs.

    Raises `UsageError` for an alias that is not `WORD=class` of a known class.
    """
    settings = load_config(config) if config else None
    classes = settings.classes if settings else load_model(None).card.classes
    aliases = dict(settings.data.aliases if settings else {}) | read_aliases(more)
    Vocabulary(classes.names, aliases)
    return Meaning(classes, aliases, complete=settings is None or settings.data.unannotated == "normal")


def read_aliases(pairs: Sequence[str]) -> dict[str, str]:
    """Read `WORD=class` pairs. Raises `UsageError` for one that is none."""
    aliases = {}
    for pair in pairs:
        word, equals, name = pair.rpartition("=")
        if not (word.strip() and equals and name.strip()):
            raise UsageError(f"--map {pair!r} must look like WORD=class, for example Tumor=bone")
        aliases[word.strip()] = name.strip()
    return aliases


def show_manifest(path: Path, meaning: Meaning) -> int:
    """Check a manifest with its slides and annotations, print all that was found; return 0, or 2 for any error."""
    with progress("slides") as start:
        report = check_manifest(path, meaning.classes, meaning.aliases, meaning.complete, start("opening slides"))
    for label in meaning.classes.labels:
        theirs = [r for _, r in report.rows if r.label == label]
        said(label, f"{_count(theirs)}, {sum(r.annotation is not None for r in theirs)} with outlines")
    _print(report.findings)
    return _verdict(report.findings, str(path))


def _count(records: Sequence[SlideRecord]) -> str:
    slides, patients = len(records), len({r.patient for r in records} - {""})
    return f"{slides} slide{'s' * (slides != 1)} of {patients} patient{'s' * (patients != 1)}"


def show_annotations(path: Path, slide_path: Path, mpp: float | None, meaning: Meaning) -> int:
    """Lint an annotation file against its slide; print areas and findings; return 0, or 2 for any error."""
    with open_slide(slide_path, mpp) as slide:
        pyramid = slide.pyramid
        objects = read_objects(path, pyramid)
        overview, lost = read_overview(slide)
    vocabulary = Vocabulary(meaning.classes.names, meaning.aliases)
    tissue = find_tissue(overview, lost)
    findings, shapes = lint(objects, vocabulary, pyramid, (tissue.mask, overview.grid))
    said("objects", f"{len(objects)}, {len(shapes)} to learn from")
    for name, area in areas_mm2(shapes, pyramid).items():
        said(name, f"{sum(s.name == name for s in shapes)} object(s), {area:.4f} mm²")
    _print(shorten(findings, 20))
    return _verdict(findings, str(path))


def said(name: str, text: str) -> None:
    """Print a name and what is said of it."""
    out.print(f"{name:<24} {text}", markup=False)


def _print(findings: Sequence[Finding]) -> None:
    for severity, colour in COLOURS.items():
        for finding in findings:
            if finding.severity == severity:
                out.print(f"{severity:<8}", style=colour, end="")
                out.print(str(finding), markup=False)


def _verdict(findings: Sequence[Finding], name: str) -> int:
    errors, warnings = (sum(f.severity == s for f in findings) for s in ("error", "warning"))
    if errors:
        out.print(f"{name}: {errors} error(s) to mend, {warnings} warning(s)", markup=False)
        return 2
    out.print(f"{name}: no errors, {warnings} warning(s)", markup=False)
    return 0


def make_manifest(folder: Path, path: Path, labels: Sequence[str]) -> int:
    """Write a manifest of all slides in a folder with what is known; say what must be filled in.

    Returns 0, or 3 when some slides cannot be read and are left out. Raises `UsageError` when the manifest exists
    already or there is no slide.
    """
    if path.exists():
        raise UsageError(f"{path} exists already and is not overwritten; move it away or give another --out")
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder that holds the slides")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder; make it first, or give another --out")
    rows: list[list[str]] = []
    bare: list[str] = []
    unreadable: list[str] = []
    beside: dict[Path, dict[str, Path]] = {}
    for slide, name in name_slides(list_slides([folder]), {}).items():
        pyramid, problem = _geometry(slide)
        if problem:
            unreadable.append(problem)
            continue
        if pyramid is None:
            bare.append(name)
        if slide.parent not in beside:
            beside[slide.parent] = {f.name.casefold(): f for f in slide.parent.iterdir()}
        annotation = _annotation_beside(slide, pyramid, beside[slide.parent])
        row = {"slide": name, "path": _relative(slide, path), "annotation": ""}
        if annotation:
            row["annotation"] = _relative(annotation, path)
        rows.append([row.get(column, "") for column in COLUMNS])
    if not rows:
        reason = f" ({unreadable[0]})" if unreadable else ""
        raise UsageError(f"{folder} holds no slide that can be read{reason}; give the folder that holds the slides")
    write_table(path, COLUMNS, rows)
    outlined = sum(bool(row[COLUMNS.index("annotation")]) for row in rows)
    said("listed", f"{len(rows)} slide(s) in {path}, {outlined} with outlines found beside them")
    for problem in unreadable:
        said("left out", problem)
    said("fill in: patient", "one name a person, the same on all of the person's slides")
    said("fill in: label", f"one of {', '.join(labels)}")
    if bare:
        said("fill in: mpp", f"µm per pixel; no credible scale is recorded in {', '.join(bare)}")
    said("may fill in", "site, split (train, validation, test), and columns of your own to group results by")
    said("then", f"histo manifest check {path}")
    return 3 if unreadable else 0


def split_manifest(path: Path, to: Path, shares: tuple[float, float], seed: int, labels: Sequence[str]) -> int:
    """Write the manifest again with its `split` column filled: (validation, test) shares of the patients.

    Rows that name a split keep it. Raises `UsageError` when `to` exists, the manifest is wrong or too small.
    """
    if to.exists():
        raise UsageError(f"{to} exists already and is not overwritten, so that test patients stay test patients")
    if not to.parent.is_dir():
        raise UsageError(f"{to.parent} is no folder; make it first, or give another --out")
    records = read_manifest(path, labels, lambda line: said("warning", line))
    sides = hold_out(records, *shares, seed).sides()
    side_of = {r.slide: side for side, some in sides.items() for r in some}
    extra = list(dict.fromkeys(name for r in records for name in r.extra))
    rows = []
    for r in records:
        row = {
            "slide": r.slide,
            "path": _relative(r.path, to),
            "patient": r.patient,
            "label": r.label,
            "annotation": _relative(r.annotation, to) if r.annotation else "",
            "mpp": str(r.mpp) if r.mpp else "",
            "split": side_of[r.slide],
            "site": r.site or "",
        }
        rows.append([*(row[c] for c in COLUMNS), *(r.extra.get(name, "") for name in extra)])
    write_table(to, [*COLUMNS, *extra], rows)
    for side, some in sides.items():
        counts = ", ".join(f"{sum(r.label == label for r in some)} {label}" for label in labels)
        said(side, f"{_count(some)}: {counts}")
    marked = [r for r in records if r.split == "test"]
    if marked:
        lacking = [label for label in labels if label not in {r.label for r in marked}]
        without = f"; none of them is {' or '.join(lacking)}" if lacking else ""
        said("warning", f"{_count(marked)} marked test already are the test set, and no more were drawn{without}")
    said("written", str(to))
    return 0


def _geometry(slide: Path) -> tuple[Pyramid | None, str | None]:
    """Return a slide's geometry, None where it records no scale, and why it cannot be read."""
    try:
        opened: Slide = open_slide(slide)
    except SlideRefused:
        return None, None
    except SlideError as error:
        return None, str(error)
    with opened:
        return opened.pyramid, None


def _annotation_beside(slide: Path, pyramid: Pyramid | None, beside: Mapping[str, Path]) -> Path | None:
    """Return the first file beside a slide that has its name and reads as an annotation; tell of those that don't.

    `beside` are all files of the folder, by their names without capitals: one in other capitals is the second choice.
    """
    # Only the frame matters for reading; where no scale is recorded any will do.
    frame = pyramid or open_slide(slide, mpp=1.0).pyramid
    for suffix in (*OUTLINES, *_PACKED):
        for name in (slide.stem + suffix, slide.name + suffix):
            exact = slide.with_name(name)
            candidate = exact if exact.exists() else beside.get(name.casefold(), exact)
            try:
                if candidate.is_file():
                    if read_objects(candidate, frame):
                        return candidate
                    said("left out", f"{candidate} holds no object")
            except UsageError as error:
                if suffix in _OUTLINES_ALONE:
                    said("left out", str(error))
    return None


def _relative(file: Path, manifest: Path) -> str:
    """Return a path as the manifest should give it: from its own folder if it lies below, else absolute."""
    whole, home = Path(os.path.abspath(file)), Path(os.path.abspath(manifest)).parent
    return path_text(whole.relative_to(home) if whole.is_relative_to(home) else whole)
