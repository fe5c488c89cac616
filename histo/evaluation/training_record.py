"""Which slides and patients a model was made with, from its card and from the `splits.csv` beside its bundle."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo.data.identities import CALIBRATED_ON, LEARNT_FROM, REFERENCE_OF, STARTED_FROM, Known, hashed_patient
from histo.data.splits import HELD_OUT
from histo.data.synthetic import person_of
from histo.evaluation.cases import Case

# Sections of a card's `training` that list SHA-256 of slides and of patients' names, and what they were used for.
_OF_CARD = {LEARNT_FROM: "train", CALIBRATED_ON: "calibration", REFERENCE_OF: "reference", STARTED_FROM: "start"}


@dataclass(frozen=True)
class Side:
    """What one part of a training used: slides by (name, bytes) or by SHA-256, patients by the hash of their name."""

    name: str
    files: frozenset[tuple[str, int]]
    sha256: frozenset[str]
    patients: frozenset[str]

    def has_slide(self, case: Case) -> bool:
        """Tell whether a case's slide was used, by its content where that is known."""
        if case.result is not None and case.result.sha256 in self.sha256:
            return True
        return (case.record.slide, case.record.path.stat().st_size) in self.files

    def has_patient(self, case: Case) -> bool:
        """Tell whether a case's patient, by name, was used."""
        person = person_of(case.record)
        return bool(person) and hashed_patient(person) in self.patients


def sides_of(bundle: Path | None, training: Mapping[str, Any] | None) -> list[Side] | None:
    """Return what is on record of a training; None where nothing is."""
    sides = [*_of_card(training or {}), *(_of_file(bundle.resolve().parent / "splits.csv") if bundle else [])]
    return sides or None


def _of_card(training: Mapping[str, Any]) -> list[Side]:
    sides = [(name, Known.by(training, key)) for key, name in _OF_CARD.items()]
    return [Side(name, frozenset(), k.slides_sha256, k.patients_sha256) for name, k in sides if k.is_listed]


def _of_file(path: Path) -> Sequence[Side]:
    """Read the splits that a run of `histo train` wrote; nothing where there is no such file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [(r["split"], r["slide"], int(r["bytes"]), r["patient"]) for r in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return []
    return [
        Side(
            name,
            frozenset((slide, size) for split, slide, size, _ in rows if split == name),
            frozenset(),
            frozenset(hashed_patient(patient) for split, *_, patient in rows if split == name),
        )
        for name in dict.fromkeys(split for split, *_ in rows)
        if name != HELD_OUT  # a fold is to be judged on these
    ]
