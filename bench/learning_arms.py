"""The cohorts and training sets of bench/learning_curve.py: what is drawn, emptied, flipped, shuffled and inked."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import openslide

from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.files import whole, write_table
from histo.phantom import CohortSpec, make_from_spec
from histo.phantom.cohort import plan_cohort
from histo.phantom.pyramid import write_slide
from histo.phantom.recipe import LABELS
from histo.phantom.slide import FORMAT
from histo.phantom.spec import load_spec, spec_from

# Six patients, two of each label; every training set is a number of whole rounds.
ROUND = ("normal", "calcinosis_cutis", "heterotopic_ossification", "confounder", "calcinosis_cutis", "mixed")
NAMES = tuple(dict.fromkeys(LABELS.values()))
INKED_LABEL, INKED_SHARE = "heterotopic_ossification", 0.9
INK = (0.15, 0.62, 0.35)  # share of red, green and blue that green ink lets through
POOL_SEED, TEST_SEED = 4001, 4002
CONFIGS = Path(__file__).parent.parent / "configs"
FEW, WEAK = "few_slides.yaml", "weak_labels.yaml"


@dataclass(frozen=True)
class Arm:
    """One kind of training: how many slides, how many of them outlined, and what is wrong with them.

    `baseline` is what is measured on tiles and the judge; `slides` 0 is the starting model itself, not trained.
    """

    name: str
    slides: int
    config: str = FEW
    outlined: int = 0
    flipped: float = 0.0
    shuffled: bool = False
    inked: bool = False
    cross_validated: bool = False
    baseline: tuple[str, str] | None = None


def _arms() -> tuple[Arm, ...]:
    baselines = (
        Arm(f"{what}-{n}-{short}", n, outlined=n, baseline=(what, judge))
        for what in ("colour", "texture")
        for n in (6, 12, 24)
        for short, judge in (("linear", "logistic regression"), ("trees", "extra trees"))
    )
    return (
        Arm("start", 0),
        *(Arm(f"outlines-{n}", n, outlined=n) for n in (6, 12, 24)),
        Arm("diagnosis-24", 24, WEAK),
        Arm("half-24", 24, outlined=12),
        Arm("inked", 24, outlined=24, inked=True),
        *baselines,
        # The costly ones last: six trainings each.
        Arm("flipped-10", 24, WEAK, flipped=0.10, cross_validated=True),
        Arm("flipped-5", 24, WEAK, flipped=0.05, cross_validated=True),
        Arm("shuffled", 24, WEAK, shuffled=True, cross_validated=True),
    )


ARMS = {arm.name: arm for arm in _arms()}


@dataclass(frozen=True)
class Cohorts:
    """The pool to draw training sets from and the test cohort: manifests by the kind of every slide."""

    folder: Path
    size_px: int
    pool: int
    test: int

    @property
    def identity(self) -> str:
        """What decides the pixels of both."""
        return f"format {FORMAT}, {self.size_px} px, {self.pool} + {self.test} patients, {POOL_SEED}, {TEST_SEED}"

    @property
    def inked(self) -> Path:
        """Where inked copies of the pool's slides are kept."""
        return self.folder / f"inked-{FORMAT}-{self.pool}-{self.size_px}"

    def make(self, workers: int | None) -> tuple[list[SlideRecord], list[SlideRecord]]:
        """Make or find both and return their slides; refuses patients that the shipped model was trained on."""
        found = []
        for name, domain, seed, patients in (
            ("pool", "train", POOL_SEED, self.pool),
            ("test", "shift", TEST_SEED, self.test),
        ):
            spec = cohort_spec(seed, domain, patients, self.size_px)
            refuse_known(spec)
            folder = self.folder / f"{name}-{FORMAT}-{patients}-{self.size_px}"
            manifest = make_from_spec(folder, spec, workers, lambda done, n, what=name: print(f"{what}: {done}/{n}"))
            found.append(read_manifest(manifest.resolve(), NAMES))
        return found[0], found[1]


def cohort_spec(seed: int, domain: str, patients: int, size_px: int) -> CohortSpec:
    """Return one slide each of `patients` patients, kinds in the proportions of ROUND."""
    kinds = {kind: ROUND.count(kind) for kind in dict.fromkeys(ROUND)}
    group = {
        "patients": patients,
        "slides_per_patient": 1,
        "kinds": kinds,
        "kind_of": "patient",
        "domain": domain,
        "size_px": [f"{size_px}x{size_px}"],
    }
    return spec_from({"seed": seed, "groups": [group]}, "the learning curve's cohort")


def refuse_known(spec: CohortSpec) -> None:
    """Raise `UsageError` when a patient or slide is also in a cohort that a shipped model was made from.

    Those are 150 slides of seed 1, and what the recipe beside the configurations says where there is one.
    """
    first = spec_from({"seed": 1, "groups": [{"slides": 150, "size_px": ["3000x3000"]}]}, "shipped")
    shipped = [first, *map(load_spec, CONFIGS.glob("training_cohort.yaml"))]
    if _drawn(spec) & set().union(*map(_drawn, shipped)):
        raise UsageError("the cohort shares slides or patients with the shipped model's; give it another seed")


def _drawn(spec: CohortSpec) -> set[int]:
    return {job.asked[key] for job in plan_cohort(spec) for key in ("seed", "patient_seed")}


def nested(pool: Sequence[SlideRecord], count: int, seed: int) -> list[SlideRecord]:
    """Draw whole patients, kinds in turn as in ROUND: the set of 6 begins that of 12, and that of 12 that of 24."""
    patients: dict[str, dict[str, list[SlideRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in pool:
        patients[record.extra["kind"]][record.patient].append(record)
    waiting: dict[str, list[str]] = {}
    for kind in sorted(patients):
        waiting[kind] = sorted(patients[kind])
        random.Random(f"{seed}/nested/{kind}").shuffle(waiting[kind])
    drawn: list[SlideRecord] = []
    while len(drawn) < count:
        kind = ROUND[len({r.patient for r in drawn}) % len(ROUND)]
        if not waiting.get(kind):
            raise UsageError(f"the pool has too few patients of kind {kind} for {count} slides; raise --pool")
        drawn += patients[kind][waiting[kind].pop()]
    return drawn


def outlined_first(records: Sequence[SlideRecord], count: int) -> list[SlideRecord]:
    """Keep the outlines of the first `count` slides only: half a set has the outlines of the smaller set."""
    return [r if k < count else replace(r, annotation=None) for k, r in enumerate(records)]


def flip(records: Sequence[SlideRecord], share: float, seed: int) -> tuple[list[SlideRecord], set[str]]:
    """Give a share of the slides, at least one, another label; also return their names."""
    rng = random.Random(f"{seed}/flip")
    wrong = set(rng.sample([r.slide for r in records], max(1, round(share * len(records)))))
    others = {label: [x for x in NAMES if x != label] for label in NAMES}
    return [replace(r, label=rng.choice(others[r.label])) if r.slide in wrong else r for r in records], wrong


def shuffle(records: Sequence[SlideRecord], seed: int) -> list[SlideRecord]:
    """Deal the labels anew: as many of each, and no knowledge of the slides in them."""
    labels = [r.label for r in records]
    random.Random(f"{seed}/shuffle").shuffle(labels)
    return [replace(r, label=label) for r, label in zip(records, labels, strict=True)]


def ink(records: Sequence[SlideRecord], folder: Path, seed: int) -> list[SlideRecord]:
    """Draw a stroke of green pen on most slides with bone, on none of the others; inked copies are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    candidates = [r.slide for r in records if r.label == INKED_LABEL]
    chosen = set(random.Random(f"{seed}/ink").sample(candidates, round(INKED_SHARE * len(candidates))))
    inked = []
    for record in records:
        copy = folder / record.path.name
        if record.slide in chosen and not copy.is_file():
            _ink(record.path, copy)
        inked.append(replace(record, path=copy) if record.slide in chosen else record)
    return inked


def _ink(source: Path, target: Path) -> None:
    """Copy a slide with a stroke along one border, encoded as well as it was: only the ink may tell it apart."""
    made = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    with openslide.OpenSlide(str(source)) as opened:
        image = np.array(opened.read_region((0, 0), 0, opened.dimensions).convert("RGB"))
    rng = np.random.default_rng(made["seed"])
    side = min(image.shape[:2])
    stroke = np.zeros(image.shape[:2], np.uint8)
    start, end, depth = rng.uniform(0.05, 0.3), rng.uniform(0.6, 0.95), rng.uniform(0.03, 0.06)
    points = [(round(image.shape[1] * x), round(image.shape[0] * depth)) for x in (start, end)]
    cv2.line(stroke, points[0], points[1], 255, max(1, side // 15))
    cover = cv2.GaussianBlur(stroke, (0, 0), 4).astype(np.float32)[..., None] / 255
    image = (image * (1 - cover * (1 - np.array(INK, np.float32)))).astype(np.uint8)
    with whole(target) as temporary:
        write_slide(temporary, image, made["mpp"], made["stain"]["quality"])


def training_set(
    arm: Arm, pool: Sequence[SlideRecord], seed: int, inked: Path | None
) -> tuple[list[SlideRecord], set[str]]:
    """Return the slides of an arm as its manifest has them, and which of them have a wrong label on purpose.

    Without a folder for `inked` slides the names are right and no slide is inked.
    """
    records, wrong = outlined_first(nested(pool, arm.slides, seed), arm.outlined), set[str]()
    if arm.flipped:
        records, wrong = flip(records, arm.flipped, seed)
    if arm.shuffled:
        records = shuffle(records, seed)
    if arm.inked and inked is not None:
        records = ink(records, inked, seed)
    return records, wrong


def write_manifest(path: Path, records: Iterable[SlideRecord]) -> None:
    """Write a manifest as a user would, paths absolute."""
    rows = [[r.slide, str(r.path), r.patient, r.label, str(r.annotation or "")] for r in records]
    write_table(path, ("slide", "path", "patient", "label", "annotation"), rows)
