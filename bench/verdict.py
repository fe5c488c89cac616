"""Whether a model reaches the goals of issue 5 on fresh phantom slides. SYNTHETIC: no clinical meaning.

    python bench/verdict.py [--model BUNDLE] [--cohorts cohorts] [--per-class 100] [--mixed 60] [--confounders 120]
                            [--in-domain 40] [--needles 20] [--size 3000] [--seed 9101] [--workers N]

One command, resumable at every point: it makes three cohorts in --cohorts (shift: slides of every class, mixed ones and
twelve kinds of look-alikes; domain: slides as the training draws them, with other seeds; needles: one deposit of a set
diameter), examines them with `histo infer`, judges them with `histo evaluate` and prints goal, figure, interval, n, and
whether the goal is met and whether the interval proves it. Typed again it goes on, or only prints. Reports stay in
--cohorts/verdict-…; the seed must not be one that a model was trained with.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo.archive.examine import RunOptions
from histo.archive.local import run_slides
from histo.evaluate import Options, evaluate
from histo.files import write_text
from histo.infer import load_model
from histo.models.bundle import Model
from histo.phantom.cohort import make_from_spec
from histo.phantom.spec import CohortSpec, spec_from

# Ten of each with the usual 120: fewer of a kind say nothing of the worst kind.
LOOK_ALIKES = (
    "lymphoid", "cartilage", "keloid", "skeletal_muscle", "tendon", "ink", "precipitate", "fold", "bacteria",
    "shadow_cells", "tophus", "scar",
)  # fmt: skip
DIAMETERS_UM = (50, 100, 150, 200, 300)
ONE_DEPOSIT = {
    "calcium.count": 1,
    "calcium.form": "nodule",
    "calcium.shattered": False,
    "calcium.cracks": 0,
    "calcium.drop_out": 9,
    "confounder.count": 0,
    "artefacts": "none",
}


def specs(given: argparse.Namespace) -> dict[str, CohortSpec]:
    """Return the three cohorts; one that is given no slides is left out."""
    kinds = {"normal": 1.0, "calcium": 1.0, "bone": 1.0}
    common: dict[str, Any] = {"size_px": given.size, "split": "test"}
    shift = [
        {"name": "classes", "slides": 3 * given.per_class, "kinds": kinds},
        {"name": "mixed", "slides": given.mixed, "kinds": "mixed"},
        {
            "name": "look-alikes",
            "slides": given.confounders,
            "kinds": {f"confounder:{name}": 1.0 for name in LOOK_ALIKES},
        },
    ]
    domain = [{"name": "classes", "slides": 3 * given.in_domain, "kinds": kinds}]
    needle: dict[str, Any] = {"kinds": "calcium", "slides_per_patient": 1, "overrides": ONE_DEPOSIT}
    needles = [
        {"name": "needles", "slides": given.needles, "vary": {"calcium.diameter_um": list(DIAMETERS_UM)}} | needle,
        {"name": "large", "slides": given.large_needles, "vary": {"calcium.diameter_um": [100, 200]}}
        | needle
        | {"size_px": given.large_size},
    ]
    found = {}
    for number, (name, where, groups) in enumerate(
        (("shift", "shift", shift), ("domain", "train", domain), ("needles", "shift", needles))
    ):
        kept = [common | {"domain": where} | g for g in groups if g["slides"]]
        if kept:
            found[name] = spec_from({"seed": given.seed + number, "groups": kept}, f"cohort {name}")
    return found


def judge(name: str, spec: CohortSpec, given: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Make, examine and evaluate one cohort, each as far as it isn't done, and return its report."""
    sizes = "-".join(str(g.slides) for g in spec.groups)
    folder = given.cohorts / f"verdict-{name}-{spec.seed}-{sizes}-{given.size}"
    manifest = make_from_spec(folder, spec, given.workers, lambda done, total: tell(f"{name}: slide {done}/{total}"))
    out = given.cohorts / f"verdict-{name}-{spec.seed}-{sizes}-{given.size}-{model.digest[:8]}"
    slides = sorted(folder.glob("*.svs"))
    options = RunOptions(device=given.device, workers=given.workers or 1)
    run_slides(
        slides,
        out,
        model,
        options,
        on_step=lambda step: None if step.kept else tell(f"{name}: examined {step.number}/{step.total}"),
    )
    return evaluate(out, manifest, options=Options(model=Path(given.model) if given.model else None))


def tell(line: str) -> None:
    """Say how far it is, apart from the table."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Goal:
    """One line of the table; `least` tells whether the figure must be at least or at most the limit."""

    name: str
    limit: float
    least: bool
    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches its limit; None without a figure."""
        return None if self.value is None else self._reaches(self.value)

    @property
    def proved(self) -> bool:
        """Whether the whole interval does."""
        end = self.low if self.least else self.high
        return end is not None and self._reaches(end)

    def _reaches(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    @property
    def line(self) -> str:
        """The goal as a row of a Markdown table."""
        met = {None: "no figure", True: "met", False: "MISSED"}[self.met]
        value = "–" if self.value is None else f"{self.value:.3f}"
        interval = "–" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"
        sign = "≥" if self.least else "≤"
        sure = "yes" if self.proved else "no"
        return f"| {self.name} | {sign} {self.limit:g} | {value} | {interval} | {self.n} | {met} | {sure} |"


HEAD = "| goal | limit | figure | 95 % interval | n | met | proved |\n|---|---|---|---|---|---|---|"


def goal(name: str, limit: float, figure: Mapping[str, Any] | None, least: bool = True) -> Goal:
    """Return a goal from a figure of a report; the interval by patient where there is no exact one."""
    f = figure or {}
    low, high = (f.get(end) if f.get(end) is not None else f.get(f"patient_{end}") for end in ("low", "high"))
    return Goal(name, limit, least, f.get("value"), low, high, int(f.get("n", 0)))


def goals(reports: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Return every goal of the issue that the cohorts have a figure for."""
    rows: list[Goal] = []
    if "shift" in reports:
        r = reports["shift"]
        balanced, places = r["primary"]["overall"]["balanced_accuracy"], r["localisation"]
        rows.append(goal("balanced accuracy of verdicts", 0.97, balanced))
        rows.append(goal("  its lower bound", 0.94, balanced | {"value": balanced["low"]}))
        rows += [goal(f"AUROC {c}", 0.995, f["auroc"]) for c, f in r["ranking"]["classes"].items()]
        rows.append(goal("mixed called heterotopic ossification", 0.95, r["several_classes"]["right"]))
        false = places["false_lesions"]
        rows.append(goal("false lesions a normal slide, no look-alike", 0.1, false["per_plain_normal_slide"], False))
        rows.append(goal("false lesions a normal slide, all", 0.1, false["per_normal_slide"], False))
        for name, least in (("calcification", 0.90), ("bone", 0.87)):
            of_class = places["classes"][name]
            rows.append(goal(f"Dice {name}, mean", least, of_class["dice"]))
            area = of_class["area"]
            rows.append(goal(f"area error {name}, median", 0.08, area | {"value": area["median_error"]}, False))
        calls = r["false_calls"]
        rows.append(goal("look-alike slides with a false call", 0.05, calls["confounders"]["any"], False))
        rows.append(goal("  of these without review", 0.05, calls["confounders"]["confident"], False))
        worst = calls["worst"]
        kind = f" ({worst['kind']})" if worst else ""
        rows.append(goal(f"  worst kind{kind}", 0.10, worst["any"] if worst else None, False))
        rows.append(goal("debiased calibration error of the verdict", 0.03, r["calibration"]["verdict"]["ece"], False))
        rows += coverage("under shift", 0.90, r)
        rows.append(goal("share in review under shift", 0.10, r["abstention"]["review"], False))
    if "domain" in reports:
        r = reports["domain"]
        rows += coverage("in domain", 0.95, r)
        rows.append(goal("share in review in domain", 0.10, r["abstention"]["review"], False))
        rows.append(goal("balanced accuracy in domain", 0.97, r["primary"]["overall"]["balanced_accuracy"]))
    if "needles" in reports:
        found = {row["diameter_um"]: row for row in reports["needles"]["localisation"]["needles"]["by_diameter"]}
        for diameter, least in ((100, 0.80), (200, 0.95), (300, 1.0)):
            rows.append(goal(f"deposit of {diameter} µm found", least, found.get(diameter, {}).get("found")))
    return rows


def coverage(where: str, least: float, report: Mapping[str, Any]) -> list[Goal]:
    """Return how often sets hold the truth: all, those that promise it, and the label with which these do worst.

    A set that excludes nothing holds it for nothing.
    """
    sets = report["calibration"]["conformal"]
    worst = sets["certified"]["worst"]
    label = f" ({worst['label']})" if worst else ""
    return [
        goal(f"conformal coverage {where}", least, sets["coverage"]),
        goal(f"  of the certified sets {where}", least, sets["certified"]["coverage"]),
        goal(f"  of these {where} by the worst label{label}", least, worst["coverage"] if worst else None),
    ]


def reviews(name: str, report: Mapping[str, Any]) -> str:
    """Return why slides of a cohort have a reason: code, how many, how many of them for that alone."""
    kept = report["abstention"]
    counts = (f"{code} {n} ({kept['only_reason'].get(code, 0)} alone)" for code, n in kept["reasons"].items())
    sets = report["calibration"]["conformal"]
    return f"{name}, reasons: {', '.join(counts)}; labels in a set: {sets['mean_size']:.2f} on average"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, examine, judge, print; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--mixed", type=int, default=60)
    parser.add_argument("--confounders", type=int, default=120)
    parser.add_argument("--in-domain", type=int, default=40, help="slides a class of the training's own domain")
    parser.add_argument("--needles", type=int, default=20, help="slides, each made with every diameter")
    parser.add_argument("--large-needles", type=int, default=4, help="larger slides, each with 100 and 200 µm")
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--large-size", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=9101)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    model = load_model(given.model)
    reports = {name: judge(name, spec, given, model) for name, spec in specs(given).items()}
    rows = goals(reports)
    counts = ", ".join(f"{name} {r['flow']['slides']} slides" for name, r in reports.items())
    print("SYNTHETIC, no clinical meaning.")
    print(f"Model {model.card.name} {model.digest[:12]}; seed {given.seed}; {counts}; {given.size} px")
    print("\n".join([HEAD, *(row.line for row in rows)]))
    print("\n".join(reviews(name, r) for name, r in reports.items()))
    kept = [{"goal": g.name.strip(), **vars(g), "met": g.met, "proved": g.proved} for g in rows]
    write_text(given.cohorts / f"verdict-{given.seed}-{model.digest[:8]}.json", json.dumps(kept, indent=1) + "\n")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
