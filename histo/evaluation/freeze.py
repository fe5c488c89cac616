"""What was tested: model, digest, thresholds and where they were set, versions, and what pins slides and labels."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from histo.data.identities import hashed_patient
from histo.data.slide_file import sha256_of
from histo.data.synthetic import person_of
from histo.errors import SlideError
from histo.evaluation.cases import Case, Cohort
from histo.evaluation.training_record import Side


def freeze(cohort: Cohort, card: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what pins the index test; `card` is the model's, None where it was not given."""
    made = [c.result.provenance for c in cohort.cases if c.result]
    first = made[0]
    model = cohort.model
    told = ", ".join(f"{name} {value:g}" for name, value in card["rule"].items()) if card else ""
    rule = f"decision rule: {told or 'in the card of the model, not given here'}; "
    return {
        "model": model.name,
        "digest": model.digest,
        "intended_use": model.intended_use,
        "classes": [
            {"name": c.name, "verdict": c.verdict, "least_area_mm2": c.min_area_mm2, "colour": list(c.colour)}
            for c in model.classes
        ],
        "thresholds": f"{rule}calibration: {model.calibration}",
        "card": dict(card) if card else None,
        "versions": dict(first.versions),
        "settings": dict(first.settings),
        "settings_digest": first.settings_digest,
        "engine": first.engine,
        "device": first.device,
        "modes": dict(Counter(str(p.settings.get("mode", "full")) for p in made)),
        "engines": dict(Counter(f"{p.device}: {p.engine}" for p in made)),
    }


def reference(cohort: Cohort) -> dict[str, Any]:
    """Return what the labels are: where from, how many slides are outlined, and what pins them."""
    outlined = [c.record for c in cohort.cases if c.record.annotation]
    digest = hashlib.sha256()
    for record in sorted(outlined, key=lambda r: r.slide):
        digest.update(record.slide.encode() + b"\0" + Path(str(record.annotation)).read_bytes())
    return {
        "manifest": cohort.manifest.name,
        "manifest_sha256": hashlib.sha256(cohort.manifest.read_bytes()).hexdigest(),
        "slides_sha256": _slides_sha256(cohort),
        "outlined_slides": len(outlined),
        "outlines_sha256": digest.hexdigest() if outlined else None,
        "who_how_many_readers_blinding_stains": "AUTHOR MUST COMPLETE",
    }


def _slides_sha256(cohort: Cohort) -> str:
    """Return what pins the slides that are judged and their labels, whatever manifest lists them."""
    pairs = sorted(f"{_content(case)} {case.record.label}" for case in cohort.cases)
    return hashlib.sha256("\n".join(pairs).encode()).hexdigest()


def _content(case: Case) -> str:
    """Return the SHA-256 of a slide, by its result or by itself; the name of one that cannot be read."""
    if case.result and case.result.sha256:
        return case.result.sha256
    try:
        return sha256_of(case.record.path)
    except SlideError:
        return case.record.slide


def partitions(cohort: Cohort, sides: Sequence[Side] | None) -> dict[str, Any]:
    """Return hashes of the patients judged and of those that the model was made with, and whether any is in both."""
    ours = {hashed_patient(person) for person in {person_of(c.record) for c in cohort.cases} - {""}}
    theirs = {patient for side in sides or () for patient in side.patients}
    shared = sorted(ours & theirs)
    if sides is None:
        said = "the training's patients are not on record here; nothing proves that the partitions are disjoint"
    elif shared:
        said = f"{len(shared)} of {len(ours)} patient codes stand in the record of the training too"
    elif not ours:
        said = "patients were not compared: all slides are phantoms, or have no patient"
    else:
        said = f"none of {len(ours)} patients is among the {len(theirs)} on record of the training"
    return {
        "patients_sha256": _hash(ours),
        "training_patients_sha256": _hash(theirs) if sides is not None else None,
        "patients_learnt_from": _learnt_from(sides or ()),
        "shared_patient_codes": len(shared) if sides is not None else None,
        "sentence": said,
    }


def _learnt_from(sides: Sequence[Side]) -> int | None:
    """Return how many patients a training learnt from; its card alone lists those that only chose the epoch, too."""
    train = [side for side in sides if side.name == "train"]
    own = [side for side in train if side.files] or train
    return len({patient for side in own for patient in side.patients}) or None


def _hash(names: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
