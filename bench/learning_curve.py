"""How few slides are enough, what diagnoses alone teach, and what wrong labels cost. SYNTHETIC: no clinical meaning.

    python bench/learning_curve.py [--arms outlines-6 half-24 …] [--seeds 1 2 3] [--cohorts cohorts] [--out curve]

Draws nested training sets from a pool of train-domain phantoms, trains as configs/few_slides.yaml or weak_labels.yaml
says, and scores every model by `predict_slide` on one shift-domain cohort of other patients. `curve/trainings.csv`
gets a row a training; call it again and it goes on where it was, epoch included. A row counts only for its
configuration, slides and starting model. `curve/summary.md` holds all rows of today's configuration against the goals.
Arms that count wrong labels are cross-validated: six trainings instead of one. `--set` overrides keys of both configs;
`--epochs` is short for the one that bounds a training's time. After `--minutes` nothing more is begun.
"""

import argparse
import csv
import fcntl
import hashlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from learning_arms import ARMS, CONFIGS, NAMES, Arm, Cohorts, training_set, write_manifest
from learning_baselines import verdicts
from learning_summary import summarise
from phantom_gate import balanced, interval

from histo.config import TrainConfig, load_config
from histo.data.records import SlideRecord
from histo.files import write_table, write_text
from histo.infer import load_model
from histo.learning.run_folder import resolved
from histo.learning.scores import Held, read_held_out, score_held_out, write_held_out
from histo.models.bundle import SHIPPED
from histo.train import train

KEY = ("arm", "seed", "config_digest", "start_digest")
FIELDS = (
    *KEY, "train_slides", "trainings", "minutes", "unbroken", "load", "n", "balanced", "low", "high", "reviewed",
    "no_verdict", "flips", "flips_in_top_fifth", "held_n", "held_balanced", "held_low", "held_high", "ink_warned",
)  # fmt: skip
FOLDS = 5
Row = dict[str, str]


@dataclass(frozen=True)
class Bench:
    """All that the trainings of one call share."""

    out: Path
    cohorts: Cohorts
    pool: list[SlideRecord]
    test: list[SlideRecord]
    overrides: list[str]
    device: str

    def config(self, arm: Arm, seed: int) -> TrainConfig:
        """Return what the arm's user would run, still without its name and manifest."""
        own = [f"seed={seed}"] + [f"cross_validation.folds={FOLDS}"] * arm.cross_validated
        return load_config(CONFIGS / arm.config, [*own, *self.overrides])

    def key(self, arm: Arm, seed: int) -> tuple[str, ...]:
        """Return what a finished row must agree with: the arm, the seed, everything learnt from, and the start."""
        config = self.config(arm, seed)
        config = config.model_copy(update={"data": config.data.model_copy(update={"manifest": Path("slides.csv")})})
        told = [self.cohorts.identity, "" if arm.baseline or not arm.slides else resolved(config)]
        if arm.slides:
            records, _ = training_set(arm, self.pool, seed, None)
            told += [f"{r.slide},{r.label},{r.annotation is not None}" for r in records]
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
        bundle = start_of(config)
        start = load_model(bundle, lazy=True).digest[:12] if bundle and not arm.baseline else "none"
        return arm.name, str(seed), digest, start


def start_of(config: TrainConfig) -> Path | None:
    """Return the bundle that a training starts from, or None for random and ImageNet weights."""
    start = config.network.start
    return None if start in ("random", "imagenet") else SHIPPED if start == "shipped" else Path(start)


def read_rows(path: Path) -> list[Row]:
    """Return the rows so far; a table with other columns is not this command's."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise SystemExit(f"{path} has other columns; move it away")
        return list(reader)


def append_row(path: Path, row: Row) -> None:
    """Add a row so that the table is whole at any moment, also when two calls do so at once."""
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = [*read_rows(path), row]
        write_table(path, FIELDS, [[r.get(f, "") for f in FIELDS] for r in rows])


def finished(rows: Sequence[Row], key: tuple[str, ...]) -> Row | None:
    """Return the row of a training that needs not be done again."""
    return next((r for r in reversed(rows) if tuple(r[k] for k in KEY) == key), None)


@contextmanager
def only_once(run: Path) -> Iterator[bool]:
    """Tell whether nobody else is at this training; two calls may share the work."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(run.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def figures(truth: Sequence[str], patients: Sequence[str], called: Sequence[str]) -> tuple[float, float, float]:
    """Return the balanced accuracy of verdicts and its bootstrap interval by patient; no verdict is a wrong one."""
    t, c = (np.array([NAMES.index(x) if x in NAMES else -1 for x in side]) for side in (truth, called))
    return balanced(t, c), *interval(t, c, np.unique(np.array(patients), return_inverse=True)[1])


def flips_found(suspicious: Path, wrong: set[str], slides: int) -> int:
    """Count the wrong labels in the first fifth of a list of suspicious ones; a fifth of all slides, rounded up."""
    with open(suspicious, encoding="utf-8", newline="") as file:
        first = [row["slide"] for row in csv.DictReader(file)][: math.ceil(slides / 5)]
    return len(wrong & set(first))


def of_held(rows: Sequence[Held]) -> Row:
    """Return the columns that say how verdicts agree with the truth."""
    score, low, high = figures([r.label for r in rows], [r.patient for r in rows], [r.verdict for r in rows])
    return {
        "n": str(len(rows)),
        "balanced": f"{score:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "reviewed": f"{np.mean([r.status == 'review' for r in rows]):.4f}",
        "no_verdict": str(sum(r.verdict == "none" for r in rows)),
    }


def do_training(bench: Bench, arm: Arm, seed: int, run: Path) -> Row:
    """Train as a user would, score the test cohort, and return the columns of the row."""
    records, wrong = training_set(arm, bench.pool, seed, bench.cohorts.inked)
    manifest = run.with_suffix(".csv")
    write_manifest(manifest, records)
    config = bench.config(arm, seed)
    data = config.data.model_copy(update={"manifest": manifest.resolve()})
    config = config.model_copy(update={"name": run.name, "data": data})
    begun = run.exists()
    started = time.monotonic()
    bundle = train(config, run.parent, bench.device, lambda line: print(f"  {line}", flush=True))
    minutes = (time.monotonic() - started) / 60
    row = {
        "train_slides": str(len(records)),
        "trainings": str(1 + config.cross_validation.folds),
        "minutes": f"{minutes:.2f}",
        "unbroken": "no" if begun else "yes",
        "load": f"{os.getloadavg()[2]:.1f}",
        **of_held(score_test(bundle, bench, run)),
    }
    if wrong:
        found = flips_found(run / "suspicious.csv", wrong, len(records))
        row |= {"flips": str(len(wrong)), "flips_in_top_fifth": str(found)}
    if arm.cross_validated:
        held = of_held(read_held_out(run / "out_of_fold.csv", NAMES))
        row |= {f"held_{k}": held[k] for k in ("n", "balanced", "low", "high")}
    told = (run / "report.md").read_text(encoding="utf-8")
    row["ink_warned"] = "yes" if "Possible shortcut: 'share of ink'" in told else "no"
    return row


def score_test(bundle: Path, bench: Bench, run: Path) -> list[Held]:
    """Score the test cohort, once."""
    table = run / "test.csv"
    if not table.is_file():
        run.mkdir(parents=True, exist_ok=True)
        write_held_out(table, score_held_out(bundle, bench.test, bench.device, "test"), NAMES)
    return read_held_out(table, NAMES)


def do_baseline(bench: Bench, arm: Arm, seed: int) -> Row:
    """Learn and judge by colour or texture alone."""
    assert arm.baseline is not None
    records, _ = training_set(arm, bench.pool, seed, None)
    called = verdicts(*arm.baseline, records, bench.test)
    score, low, high = figures([r.label for r in bench.test], [r.patient for r in bench.test], called)
    return {
        "train_slides": str(len(records)),
        "n": str(len(called)),
        "balanced": f"{score:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
    }


def do_arm(bench: Bench, arm: Arm, seed: int, table: Path) -> None:
    """Do one arm with one seed, unless its row is there."""
    key = bench.key(arm, seed)
    run = bench.out / "runs" / "-".join((*key[:3], key[3][:6]))
    with only_once(run) as mine:
        if not mine or finished(read_rows(table), key):
            print(f"{arm.name}, seed {seed}: {'finished' if mine else 'at work elsewhere'}")
            return
        print(f"{arm.name}, seed {seed}", flush=True)
        started = time.monotonic()
        row = _row(bench, arm, seed, run)
        if row is None:
            print("  there is no starting model to score")
            return
        append_row(table, row | dict(zip(KEY, key, strict=True)))
        print(f"  {told(row)}; {(time.monotonic() - started) / 60:.1f} min in all", flush=True)


def _row(bench: Bench, arm: Arm, seed: int, run: Path) -> Row | None:
    if arm.baseline:
        return do_baseline(bench, arm, seed)
    if arm.slides:
        return do_training(bench, arm, seed, run)
    bundle = start_of(bench.config(arm, seed))
    return None if bundle is None else {"train_slides": "0", **of_held(score_test(bundle, bench, run))}


def told(row: Row) -> str:
    """Return what a row says, in a line."""
    parts = [f"balanced accuracy {row['balanced']} ({row['low']} to {row['high']}), n = {row['n']}"]
    if "reviewed" in row:
        parts.append(f"{float(row['reviewed']):.0%} of them in review")
    if "flips" in row:
        parts.append(f"{row['flips_in_top_fifth']} of {row['flips']} flips among the most suspicious fifth")
    if "held_balanced" in row:
        parts.append(f"out of fold {row['held_balanced']} ({row['held_low']} to {row['held_high']})")
    if "ink_warned" in row:
        parts.append(f"ink warned of: {row['ink_warned']}")
    if "minutes" in row:
        parts.append(f"{row['trainings']} training(s) in {row['minutes']} min")
    return ", ".join(parts)


def seeds_of(arm: Arm, seeds: Sequence[int]) -> Sequence[int]:
    """Return the seeds that change anything: none does where nothing is learnt."""
    return seeds if arm.slides else seeds[:1]


def write_summary(bench: Bench, seeds: Sequence[int], table: Path) -> str:
    """Write and return the summary of the rows that today's configuration has so far."""
    rows = read_rows(table)
    keys = [bench.key(arm, seed) for arm in ARMS.values() for seed in seeds_of(arm, seeds)]
    current = [row for row in (finished(rows, key) for key in keys) if row]
    text = summarise(current, bench.cohorts.identity, bench.overrides, len(seeds))
    write_text(bench.out / "summary.md", text)
    return text


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM", help=", ".join(ARMS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--pool", type=int, default=60, help="patients to draw training sets from")
    parser.add_argument("--test", type=int, default=60, help="patients of the test cohort")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, help="of every training, other than the configurations': a trial")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing more after this time")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    parser.add_argument("--out", type=Path, default=Path("curve"))
    return parser.parse_args()


def main() -> None:
    """Make the cohorts, do what is missing, and write the summary."""
    given, started = parse(), time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    overrides = given.set + [f"optimiser.epochs={given.epochs}"] * (given.epochs is not None)
    cohorts = Cohorts(given.cohorts / "learning", given.size, given.pool, given.test)
    pool, test = cohorts.make(given.workers)
    bench = Bench(given.out, cohorts, pool, test, overrides, given.device)
    table = given.out / "trainings.csv"
    wanted = [(ARMS[name], seed) for seed in given.seeds for name in given.arms]
    for arm, seed in wanted:
        if seed not in seeds_of(arm, given.seeds):
            continue
        if (time.monotonic() - started) / 60 > given.minutes:
            print(f"{arm.name}, seed {seed}: not begun after {given.minutes:g} minutes; the same command goes on")
            continue
        do_arm(bench, arm, seed, table)
        write_summary(bench, given.seeds, table)
    print(write_summary(bench, given.seeds, table))


if __name__ == "__main__":
    main()
