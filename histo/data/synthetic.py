"""Slides that `histo phantom` made, whose patients' names say nothing, and which slides a model knows for all that."""

import json
from collections.abc import Sequence
from pathlib import Path

from histo.data.identities import Known
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of

_PHANTOM_KEYS = {"format", "kind", "seed", "domain", "patient_seed"}


def is_phantom(path: Path) -> bool:
    """Tell whether a slide was made by `histo phantom`, by the JSON file that lies beside it."""
    try:
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(known, dict) and set(known) >= _PHANTOM_KEYS


def person_of(record: SlideRecord) -> str:
    """Return the name of a slide's patient; empty for none, and for a phantom's, whose cohorts all count from 0."""
    return "" if is_phantom(record.path) else record.patient


def is_known_patient(known: Known, record: SlideRecord) -> bool:
    """Tell whether a patient of that name is on record."""
    person = person_of(record)
    return bool(person) and known.has_patient(person)


def known_by(known: Known, records: Sequence[SlideRecord]) -> list[SlideRecord]:
    """Return the slides that are on record, by their content, or of which a patient of that name is.

    Slides are read for their hash only where hashes are on record.
    """
    return [
        r for r in records if is_known_patient(known, r) or (known.slides_sha256 and known.has_slide(sha256_of(r.path)))
    ]
