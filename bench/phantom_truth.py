"""How well a model agrees with the exact truth of fresh phantom slides. SYNTHETIC: no clinical meaning.

    python bench/phantom_truth.py [--model BUNDLE] [--domain shift] [--slides 60] [--seed 9001] [--cohorts cohorts]

Makes the cohort (kept, so that a second run only scores), scores it with `histo.predict_slide` and prints n, counts
and 95 % Clopper-Pearson intervals. The seed must not be one that a model was trained with.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from histo.data.annotations import read_annotations
from histo.data.labels import draw_labels
from histo.data.manifest import read_manifest
from histo.geometry import MapGrid
from histo.infer import load_model, predict_slide
from histo.outlines import area_px2
from histo.phantom import make_cohort

FINE = 4  # truth is drawn this many times finer than the map, then averaged


def share(hits: int, n: int) -> str:
    """Return a share with its exact interval."""
    if n == 0:
        return "0 of 0"
    interval = binomtest(hits, n).proportion_ci(method="exact")
    return f"{hits} of {n} = {hits / n:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def fine(grid: MapGrid) -> MapGrid:
    """Return the lattice with cells FINE times smaller."""
    (cx, cy), (ux, uy), (rows, columns) = grid.cell_level0_px, grid.cell_um, grid.shape
    return MapGrid(grid.origin_level0_px, (cx / FINE, cy / FINE), (rows * FINE, columns * FINE), (ux / FINE, uy / FINE))


def main() -> None:
    """Score the cohort and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--domain", default="shift")
    parser.add_argument("--slides", type=int, default=60)
    parser.add_argument("--seed", type=int, default=9001)
    parser.add_argument("--size", type=int, default=4000)
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    given = parser.parse_args()
    model = load_model(given.model)
    folder = given.cohorts / f"bench-{given.domain}-{given.seed}-{given.slides}-{given.size}"
    manifest = make_cohort(
        folder, slides=given.slides, seed=given.seed, domain=given.domain, size_px=(given.size, given.size)
    )
    classes = model.card.classes
    confusion: Counter[tuple[str, str]] = Counter()
    sure: Counter[bool] = Counter()
    overlap: dict[str, list[float]] = {c.name: [] for c in classes.lesions}
    area_error: dict[str, list[float]] = {c.name: [] for c in classes.lesions}
    false_lesions: list[int] = []
    for record in read_manifest(manifest, classes.labels):
        prediction = predict_slide(record.path, model)
        result, slide_map = prediction.result, prediction.slide_map
        if result.verdict is None or slide_map is None or result.pyramid is None or record.annotation is None:
            confusion[record.label, result.status] += 1
            continue
        confusion[record.label, result.verdict.label] += 1
        if result.status == "done":
            sure[record.label == result.verdict.label] += 1
        if record.label == classes.normal_label:
            false_lesions.append(len(result.lesions))
        truth = read_annotations(record.annotation, classes.names, result.pyramid)
        lattice = fine(slide_map.grid)
        drawn = draw_labels(truth, classes.names, lattice, 0)
        found = {c.name: [x.outline for x in result.lesions if x.class_name == c.name] for c in classes.lesions}
        called = draw_labels(found, classes.names, lattice, 0)
        for k, c in enumerate(classes.lesions, start=1):
            true_mm2 = sum(map(area_px2, truth.get(c.name, []))) * result.pyramid.pixel_mm2
            if true_mm2 >= c.min_area_mm2:
                both = ((drawn == k) & (called == k)).sum()
                overlap[c.name].append(2 * both / ((drawn == k).sum() + (called == k).sum()))
                area_error[c.name].append(sum(map(area_px2, found[c.name])) * result.pyramid.pixel_mm2 / true_mm2 - 1)
    report(model.card.name, given.domain, given.seed, confusion, sure, classes.labels)
    print(f"false lesions a normal or confounder slide: {np.mean(false_lesions):.2f} (n {len(false_lesions)})")
    for name, values in overlap.items():
        errors = np.array(area_error[name])
        print(
            f"{name}: Dice mean {np.mean(values):.3f}, median {np.median(values):.3f} (n {len(values)} slides); "
            f"area error median {np.median(np.abs(errors)):.1%}, bias {np.median(errors):+.1%}"
        )


def report(
    name: str, domain: str, seed: int, confusion: Counter[tuple[str, str]], sure: Counter[bool], labels: Sequence[str]
) -> None:
    """Print the verdicts."""
    n = confusion.total()
    print(f"SYNTHETIC, no clinical meaning. Model {name}, domain {domain}, seed {seed}, n {n} slides")
    recalls = []
    for label in labels:
        row = {found: count for (truth, found), count in confusion.items() if truth == label}
        if row:
            recalls.append(row.get(label, 0) / sum(row.values()))
            print(f"  truth {label}: {row}")
    print(f"verdict right: {share(sum(confusion[x, x] for x in labels), n)}; balanced accuracy {np.mean(recalls):.3f}")
    print(f"without review: {share(sure[True], sure.total())} right; in review or refused {n - sure.total()} of {n}")


if __name__ == "__main__":
    main()
