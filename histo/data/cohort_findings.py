"""What can be said of a set of labelled slides as a whole: too small, unbalanced, told apart by site, near copies."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from histo.config import ClassesConfig
from histo.data.findings import Finding
from histo.data.likeness import SAME, Fingerprint, near_copies
from histo.data.manifest import Rows
from histo.data.records import SlideRecord
from histo.statistics import ENOUGH_TO_TELL, clopper_pearson

LEAST_TO_LEARN = 5


def class_findings(rows: Rows, classes: ClassesConfig) -> Iterator[Finding]:
    """Say which labels have too few patients to learn or to test, with n and what that means."""
    for label in classes.labels:
        n = len({r.patient for _, r in rows if r.label == label} - {""})
        place = f"label {label}"
        count = f"{n} patient{'s' * (n != 1)}"
        if n == 0 and not any(r.label == label for _, r in rows):
            yield Finding("warning", "class_size", place, "has no slide; a model cannot learn it")
        elif n == 1:
            yield Finding(
                "warning", "class_size", place, "has 1 patient, who can be learnt from or tested on, not both"
            )
        elif 1 < n < LEAST_TO_LEARN:
            yield Finding(
                "warning", "class_size", place, f"has {count}, too few to learn from: a model will know these people"
            )
        if 1 < n < ENOUGH_TO_TELL:
            yield Finding(
                "warning",
                "class_size",
                place,
                f"has {count}, too few to test on: if all {n} were right, the sensitivity would be proven only to be "
                f"above {clopper_pearson(n, n)[0]:.2f} (95 % interval)",
            )


def site_findings(rows: Rows) -> Iterator[Finding]:
    """Say which labels come from one site alone, while there are several: the site would tell the label."""
    sites: dict[str, Counter[str]] = defaultdict(Counter)
    for _, r in rows:
        sites[r.label][r.site or ""] += 1
    if len({site for where in sites.values() for site in where if site}) < 2:
        return
    for label, where in sorted(sites.items()):
        named = [site for site in where if site]
        if len(named) == 1:
            of = f" as far as it is known, of {where[named[0]]} of {where.total()} slides" if where[""] else " alone"
            message = f"comes from site {named[0]}{of}; a model may learn the site instead"
            yield Finding("warning", "site", f"label {label}", message)


def outline_findings(rows: Rows, classes: ClassesConfig) -> Iterator[Finding]:
    """Say how many lesion slides have a diagnosis alone."""
    lesions = [r for _, r in rows if r.label in classes.labels[1:]]
    bare = sum(r.annotation is None for r in lesions)
    if bare:
        message = f"{bare} of {len(lesions)} slides with a lesion have no outlines, only a diagnosis"
        yield Finding("note", "no_outlines", "the manifest", message)


def copy_findings(rows: Rows, fingerprints: Sequence[Fingerprint | None]) -> Iterator[Finding]:
    """Say which slides look like the same scan: an error between two patients, a warning within one.

    Variants of one patient's slide that the manifest itself names (`twin_of`, `varied`) are meant to be alike.
    """
    for one, other, likeness in near_copies(fingerprints):
        (line, first), (place, second) = rows[one], rows[other]
        if first.patient == second.patient and _named_variants(first, second):
            continue
        certain = likeness >= SAME and first.patient != second.patient
        whose = "of one patient, which adds nothing" if first.patient == second.patient else "under two patients"
        yield Finding(
            "error" if certain else "warning",
            "near_copy",
            f"line {place}",
            f"{second.slide} looks like {first.slide} of line {line} (likeness {likeness:.2f} of 1): "
            f"{'the same scan' if likeness >= SAME else 'perhaps the same scan'} {whose}; keep one of the two",
        )


def _named_variants(first: SlideRecord, second: SlideRecord) -> bool:
    twins = {first.slide, first.extra.get("twin_of")} & {second.slide, second.extra.get("twin_of")} - {None, ""}
    return bool(twins) or all(r.extra.get("varied") for r in (first, second))
