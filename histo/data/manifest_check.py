"""The deep check of a manifest: opens every slide and annotation, and reports every problem at once."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from histo.config import ClassesConfig
from histo.data.agreement import contradiction
from histo.data.annotation_lint import lint
from histo.data.annotations import NO_ALIASES, Vocabulary, read_objects
from histo.data.cohort_findings import class_findings, copy_findings, outline_findings, site_findings
from histo.data.findings import Finding, shorten
from histo.data.likeness import Fingerprint, fingerprint
from histo.data.manifest import Rows, inspect_manifest
from histo.data.overview import read_overview
from histo.data.records import SlideRecord
from histo.data.slide import open_slide
from histo.data.tissue import find_tissue
from histo.errors import SlideError, SlideRefused, UsageError
from histo.geometry import same_mpp

READERS = 2


@dataclass(frozen=True)
class ManifestReport:
    """The rows that can be used, and everything that was found."""

    rows: Rows
    findings: list[Finding]


def check_manifest(
    path: Path,
    classes: ClassesConfig,
    aliases: Mapping[str, str] = NO_ALIASES,
    complete: bool = True,
    on_slide: Callable[[int, int], None] = lambda done, total: None,
) -> ManifestReport:
    """Check the table, every slide and every annotation; `on_slide` is told (done, all) after each slide.

    `complete` tells whether all lesions of an outlined slide are outlined, or only some (`data.unannotated: ignore`).
    Raises `UsageError` when the file as a whole is no manifest; all else is a finding.
    """
    rows, findings = inspect_manifest(path, classes.labels)
    vocabulary = Vocabulary(classes.names, aliases)
    prints: list[Fingerprint | None] = []
    with ThreadPoolExecutor(READERS) as pool:
        examined = pool.map(lambda row: _examine(row[0], row[1], classes, vocabulary, complete), rows)
        for done, (found, print_) in enumerate(examined, start=1):
            findings += found
            prints.append(print_)
            on_slide(done, len(rows))
    told = {f.place for f in findings if f.kind == "same_content"}
    findings += [f for f in copy_findings(rows, prints) if f.place not in told]
    findings += class_findings(rows, classes)
    findings += site_findings(rows)
    findings += outline_findings(rows, classes)
    return ManifestReport(rows, sorted(findings, key=_line))


def _line(finding: Finding) -> int:
    """Return the line of a finding; those about the whole come last."""
    number = re.match(r"line (\d+)", finding.place)
    return int(number[1]) if number else sys.maxsize


def _examine(
    line: int, record: SlideRecord, classes: ClassesConfig, vocabulary: Vocabulary, complete: bool
) -> tuple[list[Finding], Fingerprint | None]:
    """Open one slide: what is wrong with it and its annotation, and what it looks like."""
    place = f"line {line}"
    try:
        with open_slide(record.path, record.mpp) as slide:
            overview, lost = read_overview(slide)
    except SlideRefused:
        message = f"{record.path} records no credible scale; fill the mpp column with its µm per pixel"
        return [Finding("error", "no_scale", place, message)], None
    except SlideError as error:
        return [Finding("error", "slide", place, str(error))], None
    findings = list(_scale_findings(place, record))
    if lost.any():
        message = f"{record.path} cannot be read in places ({lost.mean():.1%} of its overview); copy or scan it again"
        findings.append(Finding("warning", "damaged", place, message))
    tissue = find_tissue(overview, lost).mask
    if not tissue.any():
        findings.append(Finding("error", "no_tissue", place, f"{record.path} shows no tissue; look at it"))
    if record.annotation is not None:
        try:
            objects = read_objects(record.annotation, slide.pyramid)
        except UsageError as error:
            findings.append(Finding("error", "annotation", place, str(error)))
        else:
            found, shapes = lint(objects, vocabulary, slide.pyramid, (tissue, overview.grid))
            name = record.annotation.name
            found = [f for f in found if f.severity != "note"]  # told by `histo annotations check`
            findings += [
                Finding(f.severity, f.kind, f"{place}, {name}, {f.place}", f.message) for f in shorten(found, 3)
            ]
            sound = not any(f.severity == "error" for f in found)
            if sound and (problem := contradiction(record, {s.name for s in shapes}, classes, complete)):
                findings.append(Finding("error", "contradiction", place, problem))
    return findings, fingerprint(overview, tissue)


def _scale_findings(place: str, record: SlideRecord) -> Iterator[Finding]:
    """Compare the manifest's scale with the one that the file records."""
    if record.mpp is None:
        return
    try:
        with open_slide(record.path) as slide:
            recorded = slide.pyramid.mpp_x
    except SlideError:
        return
    if not same_mpp(record.mpp, recorded):
        message = f"mpp is {record.mpp:g}, and {record.path} records {recorded:.4g}; the manifest's is used, check it"
        yield Finding("warning", "scale", place, message)
