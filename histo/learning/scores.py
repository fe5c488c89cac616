"""Verdicts of held-out slides by `predict_slide` itself, their table, and the labels that they contradict."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histo.data.records import SlideRecord
from histo.files import write_table
from histo.infer import load_model, predict_slide

COLUMNS = ("slide", "patient", "label", "verdict", "status", "reasons", "held_out_by")
HOLDS = "exclusions_hold"
EVIDENCE = "evidence_"


@dataclass(frozen=True)
class Held:
    """A slide that the model did not learn from: what it is labelled, what was found, and by which training."""

    slide: str
    patient: str
    label: str
    verdict: str
    status: str
    reasons: str
    held_out_by: str
    probability: dict[str, float]
    evidence: dict[str, float] = field(default_factory=dict)
    exclusions_hold: bool = True

    @property
    def right(self) -> bool:
        """Whether the verdict is the label."""
        return self.verdict == self.label


def score_held_out(bundle: Path, records: Sequence[SlideRecord], device: str, held_out_by: str) -> list[Held]:
    """Score slides with the function that users run; a slide without a verdict has the verdict `none`."""
    model = load_model(bundle)
    rows = []
    for r in records:
        result = predict_slide(r.path, model, mpp=r.mpp, device=device, slide_id=r.slide).result
        found = result.verdict.label if result.verdict else "none"
        probability = dict(result.verdict.probability) if result.verdict else dict.fromkeys(model.info.labels, 0.0)
        reasons = ";".join(x.code for x in result.reasons)
        evidence = {b.class_name: b.evidence for b in result.burdens if b.evidence is not None}
        holds = result.verdict is None or result.verdict.exclusions_hold
        rows.append(
            Held(r.slide, r.patient, r.label, found, result.status, reasons, held_out_by, probability, evidence, holds)
        )
    return rows


def write_held_out(path: Path, rows: Sequence[Held], labels: Sequence[str]) -> None:
    """Write a row a slide with the probability of every label and the evidence of every class."""
    classes = list(dict.fromkeys(name for r in rows for name in r.evidence))
    header = [
        *COLUMNS,
        HOLDS,
        *(f"probability_{label}" for label in labels),
        *(f"{EVIDENCE}{name}" for name in classes),
    ]
    cells = [
        [
            *(str(getattr(r, c)) for c in COLUMNS),
            "yes" if r.exclusions_hold else "no",
            *(f"{r.probability[label]:.6f}" for label in labels),
            *(f"{r.evidence[name]:.6f}" if name in r.evidence else "" for name in classes),
        ]
        for r in rows
    ]
    write_table(path, header, cells)


def read_held_out(path: Path, labels: Sequence[str]) -> list[Held]:
    """Read what `write_held_out` wrote."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            Held(
                **{c: row[c] for c in COLUMNS},
                probability={label: float(row[f"probability_{label}"]) for label in labels},
                evidence={c.removeprefix(EVIDENCE): float(v) for c, v in row.items() if c.startswith(EVIDENCE) and v},
                exclusions_hold=row.get(HOLDS) == "yes",  # of an earlier version it is not known, and sets no bound
            )
            for row in csv.DictReader(file)
        ]


@dataclass(frozen=True)
class Suspect:
    """A slide whose label the held-out prediction contradicts; below 0 another label is likelier."""

    held: Held
    other: str
    margin: float


def suspects(rows: Sequence[Held]) -> list[Suspect]:
    """Rank labels from the most suspicious: by normalised margin, the label's probability minus the best other's.

    Confident learning, Northcutt, Jiang and Chuang, JAIR 2021. Slides without a verdict say nothing and are left out.
    """
    found = []
    for r in rows:
        if r.verdict == "none":
            continue
        others = {label: p for label, p in r.probability.items() if label != r.label}
        best = max(others, key=lambda label: others[label])
        found.append(Suspect(r, best, r.probability[r.label] - others[best]))
    return sorted(found, key=lambda s: (s.margin, s.held.slide))


def write_suspects(path: Path, found: Sequence[Suspect]) -> None:
    """Write the ranked list; every row says which held-out prediction it comes from."""
    header = ["rank", "slide", "patient", "label", "likelier_label", "margin", "verdict", "source"]
    write_table(
        path,
        header,
        [
            [
                str(rank),
                s.held.slide,
                s.held.patient,
                s.held.label,
                s.other if s.margin < 0 else "",
                f"{s.margin:.4f}",
                s.held.verdict,
                f"{s.held.held_out_by}: normalised margin of the held-out probability (Northcutt et al. 2021)",
            ]
            for rank, s in enumerate(found, start=1)
        ],
    )
