"""Warnings that a training report must give: few patients, shortcuts in the slides, labels tied to a site.

A network learns whatever separates the labels; where ink or a scanner does, its figures say nothing of tissue.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.data.records import SlideRecord
from histo.statistics import ENOUGH_TO_TELL, association, clopper_pearson, separations
from histo.wording import counted

ROUNDS = 2000
SUSPICIOUS_AUROC = 0.75
SUSPICIOUS_P = 0.05


@dataclass(frozen=True)
class Shortcut:
    """How well one property of the slides alone tells one label from the others."""

    label: str
    name: str
    auroc: float
    p: float

    @property
    def suspicious(self) -> bool:
        """Whether a network could learn the label from this property."""
        return self.auroc >= SUSPICIOUS_AUROC and self.p <= SUSPICIOUS_P


@dataclass(frozen=True)
class Audit:
    """All that was looked at: patients per label, shortcuts, and the warnings that follow in plain sentences."""

    patients: Mapping[str, int]
    shortcuts: tuple[Shortcut, ...]
    warnings: tuple[str, ...]


def audit(
    records: Sequence[SlideRecord],
    traits: Sequence[Mapping[str, float]],
    labels: Sequence[str],
    whole: Collection[tuple[str, str]],
    judged: Collection[tuple[str, str]],
    seed: int,
) -> Audit:
    """Look over the slides of a training: `traits` has what was measured on each, `labels` all that a model can give.

    `whole` are patient and label of all slides, also of those without tissue; `judged` those of the slides that were
    held out, on which its figures rest. Tests count a patient once per label (means of his slides): ten sections of one
    block are no ten findings.
    """
    patients, held = (
        {label: len({patient for patient, own in some if own == label}) for label in labels} for some in (whole, judged)
    )
    present = sorted({r.label for r in records})
    rows = _by_patient(records, traits)
    theirs = np.array([r.label for r, _ in rows])
    properties = _properties(rows)
    shortcuts = []
    for label in present if len(present) > 1 else ():
        for name, (area, p) in separations(properties, theirs == label, ROUNDS, seed).items():
            shortcuts.append(Shortcut(label, name, area, p))
    warnings = [*_few(patients, held), *_told(shortcuts), *_sites([r for r, _ in rows], seed)]
    return Audit(patients, tuple(sorted(shortcuts, key=lambda s: (-s.auroc, s.p, s.name))), tuple(warnings))


def _by_patient(
    records: Sequence[SlideRecord], traits: Sequence[Mapping[str, float]]
) -> list[tuple[SlideRecord, Mapping[str, float]]]:
    groups: dict[tuple[str, str], list[tuple[SlideRecord, Mapping[str, float]]]] = defaultdict(list)
    for record, measured in zip(records, traits, strict=True):
        groups[record.patient, record.label].append((record, measured))
    return [
        (members[0][0], {name: float(np.mean([t[name] for _, t in members])) for name in members[0][1]})
        for members in groups.values()
    ]


def _properties(rows: Sequence[tuple[SlideRecord, Mapping[str, float]]]) -> dict[str, NDArray[np.float64]]:
    """Return the properties that differ between slides; every site and file format is one of its own."""
    found = {name: np.array([t[name] for _, t in rows]) for name in rows[0][1]}
    for what, values in (
        ("site", [r.site or "" for r, _ in rows]),
        ("file format", [r.path.suffix.lower() for r, _ in rows]),
    ):
        for value in sorted(set(values)):
            found[f"{what} {value or 'not given'}"] = np.array([float(v == value) for v in values])
    varied = {name: values for name, values in found.items() if np.ptp(values) > 0}
    return varied or {"nothing that differs": np.zeros(len(rows))}


def _few(patients: Mapping[str, int], held: Mapping[str, int]) -> list[str]:
    """Return of which labels too few patients were held out to judge by; of one without any nothing was learnt."""
    told = []
    for label, count in held.items():
        if not patients[label]:
            told.append(
                f"No patient has the label {label}: nothing was learnt of it and nothing is judged of it, and "
                "still the model can give it."
            )
        elif not count:
            told.append(f"No patient with the label {label} was held out: nothing is judged of it.")
        elif count < ENOUGH_TO_TELL:
            low, _ = clopper_pearson(count, count)
            told.append(
                f"Only {counted(count, 'patient')} of {patients[label]} with the label {label} "
                f"{'was' if count == 1 else 'were'} held out: even if all were judged right, the true share could be "
                f"as low as {low:.2f} (95 % interval); collect more."
            )
    return told


def _told(shortcuts: Sequence[Shortcut]) -> list[str]:
    best = {s.name: s for s in sorted(shortcuts, key=lambda s: s.auroc) if s.suspicious}
    return [
        f"Possible shortcut: '{s.name}' alone tells {s.label} from the other labels (AUROC {s.auroc:.2f}, permutation "
        f"p = {s.p:.4f} over all properties and shuffles); check how these slides were chosen, inked and scanned."
        for s in sorted(best.values(), key=lambda s: (-s.auroc, s.name))
    ]


def _sites(records: Sequence[SlideRecord], seed: int) -> list[str]:
    sites = [r.site or "not given" for r in records]
    labels = [r.label for r in records]
    if len(set(sites)) < 2 or len(set(labels)) < 2:
        return []
    told = []
    tied, p = association(sites, labels, ROUNDS, seed)
    if p <= SUSPICIOUS_P and tied >= 0.3:
        told.append(
            f"Labels and sites go together (Cramér's V {tied:.2f}, permutation p = {p:.4f}); the network may learn the "
            "site, so test it on a site that it never saw."
        )
    for label in sorted(set(labels)):
        only = {s for s, found in zip(sites, labels, strict=True) if found == label}
        if len(only) == 1:
            told.append(f"All patients with the label {label} come from one site ({only.pop()}); add others.")
    return told
