"""Cross-validation by patient, or by site: every slide is held out once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from histo.config import TrainConfig
from histo.data.records import SlideRecord
from histo.data.splits import k_folds, leave_one_site_out, split_by_patient
from histo.errors import UsageError
from histo.learning.start import Start


class Dealt(NamedTuple):
    """A fold: what it leaves out in words, and the slides to learn from, to validate on and to hold out."""

    name: str
    learn: list[SlideRecord]
    validate: list[SlideRecord]
    held: list[SlideRecord]


def deal_folds(config: TrainConfig, records: Sequence[SlideRecord], start: Start) -> list[Dealt]:
    """Return every fold; nothing where the configuration asks for none.

    All are dealt before the first is trained: where one fails, it fails at once. Raises `UsageError` where a label has
    too few patients, and names the fold, or the start knows slides.
    """
    asked = config.cross_validation
    if not asked.is_wanted:
        return []
    if known := start.knows(records):
        raise UsageError(
            f"network.start was trained on {len(known)} of the slides or on patients of these names, which no fold "
            "can hold out; take another start, or leave cross_validation away"
        )
    by_site = asked.by == "site"
    dealt = []
    for number, held in enumerate(
        fold_by_site(records) if by_site else fold_by_patient(records, asked.folds, config.seed), start=1
    ):
        name = f"without site {held[0].site}" if by_site else f"fold {number}"
        try:
            learn, validate = split_by_patient(without(records, held), config.data.validation_share, config.seed)
        except UsageError as error:
            raise UsageError(f"cross-validation, {name}: {error}") from error
        dealt.append(Dealt(name, learn, validate, held))
    return dealt


def check_processes(config: TrainConfig, processes: int) -> None:
    """Raise `UsageError` for what several processes cannot do together.

    All but the first end with the first training; each has its share of the tiles.
    """
    if config.data.tiles_per_epoch // processes < config.optimiser.batch_size:
        raise UsageError(
            f"data.tiles_per_epoch ({config.data.tiles_per_epoch}) leaves each of {processes} processes less than a "
            f"batch ({config.optimiser.batch_size}); raise it, or take fewer devices"
        )
    if processes > 1 and config.cross_validation.is_wanted:
        raise UsageError(
            "cross_validation trains one model after another, which several processes cannot; take one device, or "
            "leave it out and use `histo calibrate` on patients kept aside"
        )


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
    return [list(split.validation) for split in k_folds(used, folds, seed)]


def fold_by_site(records: Sequence[SlideRecord]) -> list[list[SlideRecord]]:
    """Return the slides that each fold holds out: all of one site, `test` rows left out.

    Raises `UsageError` for slides without a site, a single site, or a label that only one site has.
    """
    return [list(split.validation) for split in leave_one_site_out([r for r in records if r.split != "test"])]


def without(records: Sequence[SlideRecord], held: Sequence[SlideRecord]) -> list[SlideRecord]:
    """Return the slides that a fold may learn from and validate on, free of the splits of the manifest."""
    names = {r.slide for r in held}
    return [replace(r, split=None) for r in records if r.slide not in names and r.split != "test"]
