"""Cross-validation by patient: every slide is held out once."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from histo.data.manifest import SlideRecord
from histo.errors import UsageError


def fold_by_patient(records: Sequence[SlideRecord], folds: int, seed: int) -> list[list[SlideRecord]]:
    """Return the slides that each fold holds out: whole patients, labels spread evenly, `test` rows left out.

    Raises `UsageError` when a label has fewer patients than it takes to hold out, validate and learn.
    """
    used = [r for r in records if r.split != "test"]
    labels: dict[str, set[str]] = defaultdict(set)
    for r in used:
        labels[r.label].add(r.patient)
    for label, patients in sorted(labels.items()):
        held_at_most = -(-len(patients) // folds)
        if len(patients) < folds or len(patients) - held_at_most < 2:
            raise UsageError(
                f"label {label} has {len(patients)} patient{'s' * (len(patients) != 1)}, too few for {folds} folds: "
                "each holds one out and needs one to validate and one to learn; add patients, change "
                "cross_validation.folds, or set it to 0 for none"
            )
    rarest = {
        p: min((len(labels[r.label]), r.label) for r in used if r.patient == p)[1] for p in {r.patient for r in used}
    }
    held: dict[str, int] = {}
    start = 0
    for label in sorted(labels):
        patients_of = sorted(p for p, rare in rarest.items() if rare == label)
        random.Random(f"{seed}/folds/{label}").shuffle(patients_of)
        for number, patient in enumerate(patients_of, start=start):
            held[patient] = number % folds
        start += len(patients_of)
    return [[r for r in used if held[r.patient] == k] for k in range(folds)]


def without(records: Sequence[SlideRecord], held: Sequence[SlideRecord]) -> list[SlideRecord]:
    """Return the slides that a fold may learn from and validate on, free of the splits of the manifest."""
    names = {r.slide for r in held}
    return [replace(r, split=None) for r in records if r.slide not in names and r.split != "test"]
