"""What screen mode loses and saves, against the truth of fresh phantoms and against full mode. SYNTHETIC.

    python bench/screen_miss.py OUT [--model BUNDLE] [--slides 100] [--size 3000] [--seed 9101] [--domains train,shift]
        [--cohorts cohorts]

Makes `--slides` phantoms in each domain (kept), examines each in full and in screen mode, and writes a row a slide to
OUT/screen_miss.csv as soon as it is known: a stopped run goes on, a finished one only prints. The seed must be none
that the model or its screen was trained with. Intervals: bootstrap of patients for areas, Clopper-Pearson for deposits.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from histo.data.annotations import read_annotations
from histo.data.labels import draw_labels
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.infer import load_model, predict_slide
from histo.learning.screen_threshold import DEPOSIT_UM, FINE, finer
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.outlines import Outline, feret_mm, paint
from histo.phantom import make_cohort
from histo.results import SlideMap, SlidePrediction, SlideResult
from histo.statistics import clopper_pearson, share_by_group


@dataclass(frozen=True, kw_only=True)
class Row:
    """One slide: areas in mm²; `lost` lies in what screen mode passed over."""

    seed: int
    domain: str
    slide: str
    patient: str
    label: str
    tissue_mm2: float = 0.0
    screened_mm2: float = 0.0
    true_mm2: float = 0.0
    true_lost_mm2: float = 0.0
    found_mm2: float = 0.0
    found_lost_mm2: float = 0.0
    right_mm2: float = 0.0
    right_lost_mm2: float = 0.0
    deposits: int = 0
    deposits_lost: int = 0
    found_deposits: int = 0
    found_deposits_lost: int = 0
    verdict_full: str
    verdict_screen: str
    full_s: float
    screen_s: float


ROWS = TypeAdapter(Row)  # reads numbers from the text of a table


def lost_deposits(outlines: Sequence[Outline], slide_map: SlideMap, mpp: tuple[float, float]) -> tuple[int, int]:
    """Count the deposits of at least 200 µm on tissue, and those of which no cell was shown to the network."""
    count = lost = 0
    for outline in outlines:
        if feret_mm(outline, *mpp) * 1000 < DEPOSIT_UM:
            continue
        inside = np.zeros(slide_map.grid.shape, np.uint8)
        paint(inside, [outline], slide_map.grid, 1)
        cells = (inside > 0) & (slide_map.tissue > 0)
        if cells.any():
            count += 1
            lost += bool(slide_map.passed_over[cells].all())
    return count, lost


def examine(record: SlideRecord, seed: int, domain: str, model: Model, engines: Engines) -> Row:
    """Examine one slide in both modes and compare."""
    started = time.perf_counter()
    full = predict_slide(record.path, model, engines=engines)
    between = time.perf_counter()
    coarse = predict_slide(record.path, model, engines=engines, mode="screen")
    ended = time.perf_counter()
    verdicts = [p.result.verdict.label if p.result.verdict else p.result.status for p in (full, coarse)]
    row = Row(
        seed=seed,
        domain=domain,
        slide=record.slide,
        patient=record.patient,
        label=record.label,
        verdict_full=verdicts[0],
        verdict_screen=verdicts[1],
        full_s=between - started,
        screen_s=ended - between,
    )
    return with_areas(row, record, model, full.result, coarse)


def with_areas(row: Row, record: SlideRecord, model: Model, result: SlideResult, coarse: SlidePrediction) -> Row:
    """Return a row with what screen mode passed over, of what is there and of what full mode found."""
    slide_map = coarse.slide_map
    if slide_map is None or result.areas is None or result.pyramid is None:  # refused or failed: nothing to lose
        return row
    assert record.annotation is not None
    names = model.card.classes.names
    truth = read_annotations(record.annotation, names, result.pyramid)
    lattice = finer(slide_map.grid)
    cell = lattice.cell_mm2

    def fine(mask: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(mask, FINE, axis=0), FINE, axis=1)

    true = (draw_labels(truth, names, lattice, 0) > 0) & fine(slide_map.tissue > 0)
    calls = {name: [x.outline for x in result.lesions if x.class_name == name] for name in names[1:]}
    found = draw_labels(calls, names, lattice, 0) > 0
    passed_over = fine(slide_map.passed_over)
    mpp = result.pyramid.mpp_x, result.pyramid.mpp_y
    deposits = lost_deposits([o for name in names[1:] for o in truth.get(name, [])], slide_map, mpp)
    found_deposits = lost_deposits([x.outline for x in result.lesions], slide_map, mpp)

    def area(part: np.ndarray) -> float:
        return float(part.sum()) * cell

    right = true & found
    return replace(
        row,
        tissue_mm2=result.areas.tissue_mm2,
        screened_mm2=coarse.result.areas.screened_mm2 if coarse.result.areas else 0.0,
        true_mm2=area(true),
        true_lost_mm2=area(true & passed_over),
        found_mm2=area(found),
        found_lost_mm2=area(found & passed_over),
        right_mm2=area(right),
        right_lost_mm2=area(right & passed_over),
        deposits=deposits[0],
        deposits_lost=deposits[1],
        found_deposits=found_deposits[0],
        found_deposits_lost=found_deposits[1],
    )


def read_rows(path: Path) -> list[Row]:
    """Read the rows that are there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [ROWS.validate_python(row) for row in csv.DictReader(file)]


def lost_share(rows: Sequence[Row], kind: str) -> str:
    """Return what share of an area is lost, with its interval by patient."""
    whole = np.array([getattr(r, f"{kind}_mm2") for r in rows])
    lost = np.array([getattr(r, f"{kind}_lost_mm2") for r in rows])
    if not whole.sum():
        return "none there"
    low, high = share_by_group(lost, whole, [f"{r.domain}/{r.patient}" for r in rows], 5000, 0)
    return f"{lost.sum():.4f} of {whole.sum():.3f} mm² = {lost.sum() / whole.sum():.3%} ({low:.3%} to {high:.3%})"


def lost_count(rows: Sequence[Row], kind: str) -> str:
    """Return how many deposits are lost, with the exact interval."""
    count, lost = (sum(getattr(r, name) for r in rows) for name in (kind, f"{kind}_lost"))
    low, high = clopper_pearson(lost, count)
    return f"{lost} of {count} ({low:.2%} to {high:.2%})"


def report(rows: Sequence[Row], title: str) -> None:
    """Print the figures of some rows."""
    tissue = sum(r.tissue_mm2 for r in rows)
    bare = [r for r in rows if not r.true_mm2]
    patients = len({(r.domain, r.patient) for r in rows})
    unseen = sum(not r.tissue_mm2 for r in rows)
    print(f"{title}: {len(rows)} slides of {patients} patients, {tissue:.1f} mm² of tissue; {unseen} without a verdict")
    print(f"  passed over: {sum(r.screened_mm2 for r in rows) / tissue:.1%} of the tissue; of slides without a lesion "
          f"{sum(r.screened_mm2 for r in bare) / max(sum(r.tissue_mm2 for r in bare), 1e-9):.1%}")  # fmt: skip
    print(f"  true lesion area lost: {lost_share(rows, 'true')}")
    print(f"  area that full mode calls lost, false or true: {lost_share(rows, 'found')}")
    print(f"  of it what is true: {lost_share(rows, 'right')}")
    print(f"  true deposits of 200 µm or more lost: {lost_count(rows, 'deposits')}")
    print(f"  lesions of 200 µm or more that full mode calls lost: {lost_count(rows, 'found_deposits')}")
    changed = [r for r in rows if r.verdict_full != r.verdict_screen]
    better = sum(r.verdict_screen == r.label for r in changed)
    worse = sum(r.verdict_full == r.label for r in changed)
    print(f"  verdicts changed: {len(changed)}, {better} of them to right, {worse} to wrong")
    print(f"  seconds a slide, full and screen, medians: {np.median([r.full_s for r in rows]):.2f}, "
          f"{np.median([r.screen_s for r in rows]):.2f}")  # fmt: skip


def main() -> None:
    """Examine what is missing, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=9101)
    parser.add_argument("--domains", default="train,shift")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    given = parser.parse_args()
    model = load_model(given.model)
    engines = Engines(model)
    given.out.mkdir(parents=True, exist_ok=True)
    # What another model, or other slides, gave is another table.
    table = given.out / f"screen_miss-{model.digest[:8]}-{given.seed}-{given.slides}-{given.size}.csv"
    rows = read_rows(table)
    domains = given.domains.split(",")
    for number, domain in enumerate(domains):
        seed = given.seed + number  # the same layouts in another domain would be no other patients
        folder = given.cohorts / f"bench-{domain}-{seed}-{given.slides}-{given.size}"
        made = make_cohort(folder, slides=given.slides, seed=seed, domain=domain, size_px=(given.size, given.size))
        known = {(r.seed, r.domain, r.slide) for r in rows}
        for record in read_manifest(made, model.card.classes.labels):
            if (seed, domain, record.slide) in known:
                continue
            rows.append(examine(record, seed, domain, model, engines))
            with open(table, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [f.name for f in fields(Row)])
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(asdict(rows[-1]))
    print(f"SYNTHETIC, no clinical meaning. Model {model.card.name} ({model.digest[:12]}), seed {given.seed}")
    for domain in domains:
        report([r for r in rows if r.domain == domain], domain)
    report(rows, "both" if len(domains) > 1 else "all")


if __name__ == "__main__":
    main()
