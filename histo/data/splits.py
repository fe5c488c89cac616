"""Splitting slides by patient: hold-out, k folds, leave-one-site-out. Pure functions of records and a seed.

A patient is never on two sides, whatever the row order; labels, and sites where they are given, are spread evenly.
Rows whose `split` column is filled keep their side; `test` patients are named once and stay out of all else.
"""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from histo.data.identities import told_apart
from histo.data.records import SlideRecord
from histo.errors import UsageError

Records = Sequence[SlideRecord]
HELD_OUT = "held out"  # the side of a fold that it is judged on, and is not shown


@dataclass(frozen=True)
class Split:
    """One way to learn: records to train on, to validate on (choose, calibrate, out of fold) and to test on, once."""

    name: str
    train: tuple[SlideRecord, ...]
    validation: tuple[SlideRecord, ...]
    test: tuple[SlideRecord, ...] = ()

    def __post_init__(self) -> None:
        refuse_leaks(self.sides())

    def sides(self) -> Mapping[str, Records]:
        """Return the records by the name of their side."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def refuse_leaks(sides: Mapping[str, Records]) -> None:
    """Raise `UsageError` when a patient, a slide or a file is on two sides, naming the first and how many there are."""
    kinds: dict[str, Callable[[SlideRecord], str]] = {
        "patient": lambda r: told_apart(r.patient),
        "slide": lambda r: told_apart(r.slide),
        "file": lambda r: os.path.normpath(r.path),
    }
    for kind, key in kinds.items():
        on: dict[str, set[str]] = defaultdict(set)
        for side, records in sides.items():
            for r in records:
                on[key(r)].add(side)
        crossing = sorted(k for k, found in on.items() if len(found) > 1)
        if crossing:
            where = " and ".join(sorted(on[crossing[0]]))
            more = f" and {len(crossing) - 1} more" if len(crossing) > 1 else ""
            raise UsageError(f"{kind} {crossing[0]}{more} would be in {where}; a {kind} belongs to one side of a split")


def split_by_patient(records: Records, share: float, seed: int) -> tuple[list[SlideRecord], list[SlideRecord]]:
    """Split into training and validation slides, whole patients only, every label on both sides.

    Rows with a `split` keep it (`test` rows are left out); the others are drawn by patient, stratified by the
    patient's rarest label and by site. Both sides come in the order of the slides' names, so that nothing hangs on that
    of the rows. Raises `UsageError` naming the label that one side would lack.
    """
    ordered = sorted(records, key=lambda r: r.slide)
    return _split_in_two(ordered, share, seed, ordered)


def _split_in_two(
    records: Records, share: float, seed: int, counted: Records
) -> tuple[list[SlideRecord], list[SlideRecord]]:
    """Split as `split_by_patient` does; `counted` are the records whose patients an error counts."""
    fixed = [r for r in records if r.split in ("train", "validation")]
    free = [r for r in records if r.split is None]
    held_back = _draw_patients(free, fixed, share, seed, ("train", "validation"))
    train = [r for r in fixed if r.split == "train"] + [r for r in free if r.patient not in held_back]
    held_out = [r for r in fixed if r.split == "validation"] + [r for r in free if r.patient in held_back]
    if not (fixed or free):
        raise UsageError("the manifest has no slide to train or validate on; give some a split other than test")
    refuse_leaks({"train": train, "validation": held_out})
    _refuse_missing([*fixed, *free], (("train", train), ("validate", held_out)), counted)
    return train, held_out


def hold_out(records: Records, validation_share: float, test_share: float, seed: int) -> Split:
    """Split into training, validation and test slides, each share of the patients of every label.

    Where some rows are already `test`, those are the test set and no more are drawn. Raises `UsageError` naming the
    label that a side would lack (three sides need three patients a label), or shares that leave nothing to train on.
    """
    if validation_share == 0 and not any(r.split == "validation" for r in records):
        raise UsageError(
            "a validation share of 0 chooses no best epoch; give more, or mark slides to validate on in the manifest"
        )
    if not 0 < validation_share + test_share < 1:
        raise UsageError(f"shares of {validation_share:g} and {test_share:g} leave nothing to train on; lower them")
    test = [r for r in records if r.split == "test"]
    rest = [r for r in records if r.split != "test"]
    draws_test = not test and test_share > 0
    if draws_test:
        free = [r for r in rest if r.split is None]
        drawn = _draw_patients(free, [r for r in rest if r.split], test_share, seed, ("train", "test"), keep=2)
        test = [r for r in free if r.patient in drawn]
        rest = [r for r in rest if r.patient not in drawn]
    # Of those who are left; where more than the share were marked as test, the rest is divided as if they weren't.
    left = max(1 - test_share, len({r.patient for r in rest}) / max(len({r.patient for r in records}), 1))
    train, validation = _split_in_two(rest, validation_share / left, seed, records)
    if draws_test:  # whoever marked test slides may have labels there that are not to be learnt
        _refuse_missing(records, (("train", train), ("validate", validation), ("test", test)))
    return Split("hold-out", tuple(train), tuple(validation), tuple(test))


def k_folds(records: Records, folds: int, seed: int) -> list[Split]:
    """Deal the patients into `folds`; each is validated on once, so that every slide gets one out-of-fold prediction.

    Rows already `test` are the test set of every fold; other splits are ignored. Raises `UsageError` for fewer than
    two folds, fewer patients than folds, or a label with a single patient, which one fold could not train on.
    """
    test = tuple(r for r in records if r.split == "test")
    free = [r for r in records if r.split != "test"]
    patients = {r.patient for r in free}
    if not 2 <= folds <= len(patients):
        raise UsageError(f"{folds} folds cannot be made of {len(patients)} patients; ask for 2 to {len(patients)}")
    fold_of: dict[str, int] = {}
    dealt = 0
    for label, members in sorted(_by_stratum(free).items()):
        # One site after the other, so that each site is dealt evenly.
        for _, theirs in sorted(_by_site(members, free, f"{seed}/{label}").items()):
            for patient in theirs:
                fold_of[patient] = dealt % folds
                dealt += 1
    splits = []
    for fold in range(folds):
        train = [r for r in free if fold_of[r.patient] != fold]
        _refuse_missing(free, (("train", train),))
        validation = tuple(r for r in free if fold_of[r.patient] == fold)
        splits.append(Split(f"fold {fold + 1}", tuple(train), validation, test))
    return splits


def leave_one_site_out(records: Records) -> list[Split]:
    """Validate on each site in turn, training on all the others; `test` rows are the test set of every round.

    Raises `UsageError` for rows without a site, fewer than two sites, a patient at two sites, or a label that only one
    site has, which could not be learnt without it.
    """
    test = tuple(r for r in records if r.split == "test")
    free = [r for r in records if r.split != "test"]
    bare = [r.slide for r in free if not r.site]
    if bare:
        raise UsageError(f"{len(bare)} slide(s) have no site ({bare[0]} …); fill the manifest's site column")
    sites = sorted({str(r.site) for r in free})
    if len(sites) < 2:
        raise UsageError(f"leaving one site out needs two sites, and the manifest has {len(sites)}")
    splits = []
    for site in sites:
        train = tuple(r for r in free if r.site != site)
        split = Split(f"without {site}", train, tuple(r for r in free if r.site == site), test)
        _refuse_missing(free, ((f"train without {site}", train),), advice="add patients of this label at other sites")
        splits.append(split)
    return splits


def _refuse_missing(
    used: Records,
    sides: Iterable[tuple[str, Records]],
    counted: Records = (),
    advice: str = "add patients of this label or change the manifest's split column",
) -> None:
    """Raise `UsageError` naming the label that a side lacks, how many patients have it, and what to do."""
    for label in sorted({r.label for r in used}):
        count = len({r.patient for r in counted or used if r.label == label})
        for verb, side in sides:
            if label not in {r.label for r in side}:
                patients = f"{count} patient{'s' * (count != 1)}"
                raise UsageError(f"label {label} has {patients} and would have none to {verb} on; {advice}")


def _by_stratum(records: Records) -> dict[str, list[str]]:
    """Return the patients under the rarest of their labels, in order of their names."""
    count = Counter(r.label for r in records)
    rarest: dict[str, str] = {}
    for r in records:
        rarest[r.patient] = min((rarest.get(r.patient, r.label), r.label), key=lambda label: (count[label], label))
    strata: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(rarest):
        strata[rarest[patient]].append(patient)
    return strata


def _by_site(patients: Iterable[str], records: Records, seed: str) -> dict[str, list[str]]:
    """Return the patients shuffled within their (first) site."""
    shuffled = list(patients)
    random.Random(seed).shuffle(shuffled)
    site_of: dict[str, str] = {}
    for r in records:
        site_of[r.patient] = min(site_of.get(r.patient, r.site or ""), r.site or "")
    sites: dict[str, list[str]] = defaultdict(list)
    for patient in shuffled:
        sites[site_of[patient]].append(patient)
    return sites


def _draw_patients(
    free: Records, fixed: Records, share: float, seed: int, sides: tuple[str, str], keep: int = 1
) -> set[str]:
    """Return the patients to hold back from `sides[0]` for `sides[1]`, so that with the `fixed` ones it has its share.

    Of every label at least one where that leaves `keep` others, and never all that could be trained on.
    """
    has = {(r.label, r.split) for r in fixed}
    side_of = {r.patient: r.split for r in fixed}
    by_side = {label: [side_of[p] for p in theirs] for label, theirs in _by_stratum(fixed).items()}
    chosen: set[str] = set()
    for label, patients in sorted(_by_stratum(free).items()):
        sites = _by_site(patients, free, f"{seed}/{label}")
        offsets = random.Random(f"{seed}/{label}/sites")
        # Every site at an even pace: a draw of any length takes nearly the same share of each.
        paced = [
            ((rank + offset) / len(theirs), site, patient)
            for site, theirs in sorted(sites.items())
            for offset in [offsets.random()]
            for rank, patient in enumerate(theirs)
        ]
        least = 0 if (label, sides[1]) in has else 1
        most = len(patients) if (label, sides[0]) in has else max(len(patients) - keep, 0)
        marked = by_side.get(label, [])
        wanted = round(share * (len(patients) + len(marked))) - sum(side == sides[1] for side in marked)
        count = max(min(wanted, most), min(least, most))
        chosen.update(patient for _, _, patient in sorted(paced)[:count])
    return _mended(chosen, free, fixed, sides)


def _mended(chosen: set[str], free: Records, fixed: Records, sides: tuple[str, str]) -> set[str]:
    """Move or swap patients of several labels until each side has every label, where a few such steps can do it."""
    labels: dict[str, set[str]] = defaultdict(set)
    for r in free:
        labels[r.patient].add(r.label)
    every = {r.label for r in (*free, *fixed)}
    fixed_labels = [{r.label for r in fixed if r.split == side} for side in sides]

    def lacking(held: set[str]) -> int:
        there = fixed_labels[1].union(*(labels[p] for p in held))
        here = fixed_labels[0].union(*(labels[p] for p in labels if p not in held))
        return len(every - there) + len(every - here)

    while missing := lacking(chosen):
        moves = [{p} for p in sorted(labels)]
        moves += [{p, q} for p in sorted(chosen) for q in sorted(set(labels) - chosen)]
        better = next((m for m in moves if lacking(chosen ^ m) < missing), None)
        if better is None:
            break
        chosen = chosen ^ better
    return chosen
