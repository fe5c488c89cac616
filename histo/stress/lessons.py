"""Tests 33 to 38: what trainings teach. They are run by bench/learning_curve.py; leakage is checked here at once."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

import histo
from histo.data.findings import Finding
from histo.data.manifest_check import check_manifest
from histo.errors import UsageError
from histo.files import write_table
from histo.stress.disturb import disturb, read_picture, write_picture
from histo.stress.judge import Check, at_least, not_run, number, told
from histo.stress.trial import Kit, Trial
from histo.stress.views import make

CURVE: Final = Path(histo.__file__).parents[1] / "bench" / "learning_curve.py"
SEEDS: Final = 5
FEW_SEEDS: Final = 3
FEW: Final = {6: 0.85, 12: 0.93, 24: 0.97}
CHANCE: Final = 1 / 3

Row = dict[str, str]


def command(kit: Kit, arms: Sequence[str], seeds: int) -> list[str]:
    """Return the command that does the trainings of some arms from the model, and keeps them beside the stress test."""
    return [
        "python", "bench/learning_curve.py", "--arms", *arms, "--seeds", *(str(k + 1) for k in range(seeds)),
        "--set", f"network.start={kit.model.folder.resolve()}", "--out", str(kit.out / "learning"),
        "--cohorts", str(kit.out / "learning"),
    ]  # fmt: skip


def train_arms(kit: Kit, arms: Sequence[str], seeds: int) -> None:
    """Do the trainings of some arms. Raises `UsageError` where bench/ is not there, or they fail."""
    if not CURVE.is_file():
        raise UsageError(f"--learning needs the source tree of histo, and {CURVE} is not there; leave it away")
    _, _, *rest = command(kit, arms, seeds)
    done = subprocess.run([sys.executable, str(CURVE), *rest], check=False)
    if done.returncode:
        raise UsageError(f"bench/learning_curve.py ended with {done.returncode}; see what it printed above")


def rows_of(kit: Kit, arm: str) -> list[Row]:
    """Return the finished trainings of an arm that began with this model, the last of each seed."""
    table = kit.out / "learning" / "trainings.csv"
    if not table.is_file():
        return []
    with open(table, encoding="utf-8", newline="") as file:
        mine = [r for r in csv.DictReader(file) if r["arm"] == arm and r["start_digest"] == kit.model.digest[:12]]
    return list({r["seed"]: r for r in mine}.values())


def _trained(kit: Kit, arms: Sequence[str], seeds: int) -> dict[str, list[Row]] | Check:
    """Return the rows of every arm, after training them where that is wanted, or the check that says how to."""
    if kit.learning:
        train_arms(kit, arms, seeds)
    rows = {arm: rows_of(kit, arm) for arm in arms}
    if not all(rows.values()):
        return not_run("trainings", " ".join(command(kit, arms, seeds)))
    return rows


def _scores(rows: Sequence[Row], column: str = "balanced") -> list[float]:
    return [float(r[column]) for r in rows if r[column]]


def _few_shot(kit: Kit) -> list[Check]:
    rows = _trained(kit, [f"outlines-{n}" for n in FEW], SEEDS)
    if isinstance(rows, Check):
        return [rows]
    scores = {n: _scores(rows[f"outlines-{n}"]) for n in FEW}
    found = [
        number(f"{n} slides, mean", float(np.mean(s)), len(s), FEW[n], SEEDS, most=False) for n, s in scores.items()
    ]
    falls = [
        float(np.mean(scores[a]) - np.std(scores[a]) - np.mean(scores[b]))
        for a, b in zip(list(FEW)[:-1], list(FEW)[1:], strict=True)
    ]
    fewest = min(len(s) for s in scores.values())
    return [
        *found,
        number("largest fall beyond one sd", max(falls), fewest, 0.0, SEEDS),
        told("48 slides", "no arm of bench/learning_curve.py", 0),
    ]


def _noise(kit: Kit) -> list[Check]:
    rows = _trained(kit, ["diagnosis-24", "flipped-5", "flipped-10"], FEW_SEEDS)
    if isinstance(rows, Check):
        return [rows]
    clean = float(np.mean(_scores(rows["diagnosis-24"])))
    found = []
    for arm, limit in (("flipped-5", 1.0), ("flipped-10", 3.0)):
        scores = _scores(rows[arm])
        drop = 100 * (clean - float(np.mean(scores)))
        found.append(number(f"{arm} %: fall of balanced accuracy", drop, len(scores), limit, FEW_SEEDS, " points"))
    both = [r for arm in ("flipped-5", "flipped-10") for r in rows[arm] if r["flips"]]
    hits, total = (sum(int(r[c]) for r in both) for c in ("flips_in_top_fifth", "flips"))
    return [
        *found,
        at_least("wrong labels in the first fifth of the doubtful", hits, total, 0.7, FEW_SEEDS),
        told("20 % of slides, 10 and 20 % of tiles", "no arm of bench/learning_curve.py", 0),
    ]


def _imbalance(kit: Kit) -> list[Check]:
    words = "no arm of bench/learning_curve.py draws 1:10:50 yet; train with a manifest of that kind by `histo train`"
    return [not_run("trainings", words)]


def _shortcut(kit: Kit) -> list[Check]:
    rows = _trained(kit, ["outlines-24", "inked"], FEW_SEEDS)
    if isinstance(rows, Check):
        return [rows]
    warned = sum(r["ink_warned"] == "yes" for r in rows["inked"])
    drop = 100 * float(np.mean(_scores(rows["outlines-24"])) - np.mean(_scores(rows["inked"])))
    n = len(rows["inked"])
    return [
        at_least("the audit warns of ink", warned, n, 1.0, FEW_SEEDS),
        number("fall of balanced accuracy without ink", drop, n, 5.0, FEW_SEEDS, " points"),
    ]


def _random_labels(kit: Kit) -> list[Check]:
    rows = _trained(kit, ["shuffled"], FEW_SEEDS)
    if isinstance(rows, Check):
        return [rows]
    near = [float(r["held_low"]) <= CHANCE <= float(r["held_high"]) for r in rows["shuffled"] if r["held_low"]]
    return [at_least("chance lies in the interval of the cross-validation", sum(near), len(near), 1.0, FEW_SEEDS)]


def _leakage(kit: Kit) -> list[Check]:
    """Plant a patient on both sides, a copy and a rescan under another patient, and count what is an error."""
    source = kit.base_slide(0)
    made = make(source, kit.phantoms)
    with tempfile.TemporaryDirectory(prefix="histo-stress-") as folder:
        rescan, copy = Path(folder) / "rescan.svs", Path(folder) / "copy.svs"
        picture = read_picture(made.slide, source.stain(made.attempt))
        write_picture(rescan, disturb(picture, "jpeg", {"quality": 70}, source.key))
        copy.write_bytes(made.slide.read_bytes())
        slides = [("a", made.slide, "p1", "train"), ("b", rescan, "p2", "test"), ("c", copy, "p3", "test")]
        other = make(kit.base_slide(1), kit.phantoms)
        slides.append(("d", other.slide, "p1", "test"))
        table = Path(folder) / "slides.csv"
        label = kit.model.card.classes.normal_label
        rows = [(name, str(path.resolve()), patient, label, split) for name, path, patient, split in slides]
        write_table(table, ("slide", "path", "patient", "label", "split"), rows)
        errors = [f for f in check_manifest(table, kit.model.card.classes).findings if f.severity == "error"]
    planted = {
        "patient on both sides": _any(errors, "split", "patient p1"),
        "same content under two patients": _any(errors, "same_content", "line 4"),
        "near copy under another patient": any(f.place.startswith("line 3") for f in errors),
    }
    return [at_least(f"{what} is an error", int(found), 1, 1.0, 1) for what, found in planted.items()]


def _any(errors: Sequence[Finding], kind: str, place: str) -> bool:
    return any(f.kind == kind and f.place.startswith(place) for f in errors)


LESSONS: Final = (
    Trial(33, "few_shot", "learning", "6, 12, 24 slides × 5 seeds", "mean ≥ 0.85, 0.93, 0.97; monotone within 1 sd",
        run=_few_shot),
    Trial(34, "label_noise", "learning", "5 and 10 % of the slides with a wrong label",
        "falls ≤ 1, 3 points; 70 % of them found", run=_noise),
    Trial(35, "imbalance", "learning", "classes 1:10:50", "sensitivity of the rare class ≥ 0.90", run=_imbalance),
    Trial(36, "shortcut", "learning", "ink on bone slides only, in training",
        "the audit warns; falls ≤ 5 points", run=_shortcut),
    Trial(37, "leakage", "learning", "patient on both sides, copies, rescans", "hard errors", run=_leakage),
    Trial(38, "random_labels", "learning", "shuffled labels", "cross-validation within the interval of chance",
        run=_random_labels),
)  # fmt: skip
