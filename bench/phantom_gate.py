"""Whether phantom slides can be won by colour or by a handful of texture numbers. SYNTHETIC: no clinical meaning.

    python bench/phantom_gate.py [--slides 40] [--size 2000] [--seed 501] [--cohorts cohorts]

Trains logistic regression and extra trees on tiles of train-domain slides and tests them on tiles of shift-domain
slides: with the mean colour alone, and with twelve texture numbers alone. If they do better than the limits, the
benchmark is too easy and the generator must be made harder. Cohorts are kept, so that a second run only scores.
Intervals are 95 % percentile bootstraps over slides.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histo.phantom import make_cohort
from histo.phantom.confounders import CONFOUNDERS

TILE_PX, DOWN = 224, 2  # 112 µm; the mask has a cell for every second pixel
LESION, NONE, TISSUE = 0.35, 0.01, 0.5
NAMES = ("normal or confounder", "calcification", "bone")
LIMITS = {"colour": 0.60, "texture": 0.80}
SCALES_PX = (1.0, 2.0, 4.0, 8.0)
PER_SLIDE = 16  # tiles of a slide without lesion; half of them confounders where there are enough
PARTNERS = {
    1: ("lymphoid", "nuclei_sheet", "cartilage", "bacteria", "basaloid", "necrosis"),
    2: ("keloid", "smooth_muscle", "tendon", "skeletal_muscle", "scar", "retraction"),
}


class Tiles(NamedTuple):
    """Features (N, 3) and (N, 12), class (N,), slide number (N,), confounder id that fills the tile or 0 (N,)."""

    colour: NDArray[np.float64]
    texture: NDArray[np.float64]
    label: NDArray[np.int64]
    slide: NDArray[np.int64]
    inside: NDArray[np.int64]


def blocks(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Cut a map into square blocks: (rows, columns, side * side)."""
    rows, columns = values.shape[0] // side, values.shape[1] // side
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows, columns, side * side)


def texture(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return twelve numbers a tile: energy and skewness of a difference of Gaussians, coherence, at four scales."""
    out = []
    for sigma in SCALES_PX:
        near, far = (cv2.GaussianBlur(grey, (0, 0), s) for s in (sigma, 1.6 * sigma))
        band = blocks(near - far, TILE_PX)
        band -= band.mean(axis=2, keepdims=True)
        spread = band.std(axis=2) + 1e-6
        out += [np.log(spread), (band * band * band).mean(axis=2) / spread**3]
        gy, gx = cv2.Sobel(near, cv2.CV_32F, 0, 1), cv2.Sobel(near, cv2.CV_32F, 1, 0)
        xx, yy, xy = (blocks(cv2.GaussianBlur(m, (0, 0), 2 * sigma), TILE_PX) for m in (gx * gx, gy * gy, gx * gy))
        out.append((np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-6)).mean(axis=2))
    return np.stack(out, axis=2).astype(np.float64)


def tiles_of(slide: Path, number: int, every: bool = False) -> Tiles:
    """Measure the tiles of one slide: chosen by their truth, or `every` tile of tissue, some without a class (-1)."""
    with openslide.OpenSlide(str(slide)) as opened:
        image = np.asarray(opened.read_region((0, 0), 0, opened.dimensions).convert("RGB"))
    truth = blocks(tifffile.imread(slide.with_suffix("").with_suffix(".mask.tif")), TILE_PX // DOWN)
    shares = {k: (truth == k).mean(axis=2) for k in (1, 2, *CONFOUNDERS.values())}
    lesion = shares[1] + shares[2]
    white = np.percentile(image[::8, ::8].min(axis=2), 99)
    tissue = blocks((image.min(axis=2) < white - 15).astype(np.float32), TILE_PX).mean(axis=2)
    label = np.full(lesion.shape, -1)
    label[(lesion < NONE) & (tissue > TISSUE)] = 0
    for k in (1, 2):
        label[(shares[k] > LESION) & (shares[3 - k] < NONE)] = k
    inside = np.zeros(lesion.shape, np.int64)
    for k in CONFOUNDERS.values():
        inside[shares[k] > LESION] = k
    colour = np.stack([blocks(image[:, :, c], TILE_PX).mean(axis=2) for c in range(3)], axis=2)
    numbers = texture(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255)
    kept = tissue > TISSUE if every else choose(label, inside, number)
    return Tiles(colour[kept], numbers[kept], label[kept], np.full(int(kept.sum()), number), inside[kept])


def choose(label: NDArray[np.int64], inside: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
    """Keep all lesion tiles up to twice PER_SLIDE, and PER_SLIDE others, half of them confounders."""
    rng = np.random.default_rng(number)
    kept = np.zeros(label.shape, bool)
    for where, most in (
        (label > 0, 2 * PER_SLIDE),
        ((label == 0) & (inside > 0), PER_SLIDE // 2),
        ((label == 0) & (inside == 0), PER_SLIDE // 2),
    ):
        places = np.flatnonzero(where)
        kept.ravel()[rng.permutation(places)[:most]] = True
    return kept


def measure(folder: Path, every: bool = False) -> Tiles:
    """Measure all tiles of a cohort, once; slides are numbered in the order of their names. See `tiles_of`."""
    stored = folder / ("gate-every.npz" if every else "gate.npz")
    slides = sorted(folder.glob("*.svs"))
    if stored.is_file() and stored.stat().st_mtime > max(p.stat().st_mtime for p in slides):
        with np.load(stored) as kept:
            return Tiles(*(kept[name] for name in Tiles._fields))
    parts = [tiles_of(slide, number, every) for number, slide in enumerate(slides)]
    tiles = Tiles(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    np.savez(stored, **tiles._asdict())
    return tiles


def balanced(truth: NDArray[np.int64], called: NDArray[np.int64]) -> float:
    """Return the mean recall over the classes that are there."""
    return float(np.mean([(called[truth == k] == k).mean() for k in np.unique(truth)]))


def interval(truth: NDArray[np.int64], called: NDArray[np.int64], slide: NDArray[np.int64]) -> tuple[float, float]:
    """Return the bootstrap interval of the balanced accuracy, drawing whole slides."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(slide == s) for s in np.unique(slide)]
    values = []
    for _ in range(1000):
        drawn = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
        values.append(balanced(truth[drawn], called[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def judges() -> dict[str, Any]:
    """Return the two baselines, untrained."""
    return {
        "logistic regression": make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)
        ),
        "extra trees": ExtraTreesClassifier(300, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=1),
    }


def overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the Bhattacharyya coefficient of the mean optical density of two sets of tiles, in ten bins."""
    a, b = (-np.log((x.mean(axis=1) + 1) / 256) for x in (one, two))
    edges = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()) + 1e-6, 11)
    p, q = (np.histogram(x, edges)[0] / len(x) for x in (a, b))
    return float(np.sqrt(p * q).sum())


def report(train: Tiles, test: Tiles) -> bool:
    """Print all figures and return whether the limits hold."""
    for name, tiles in (("train", train), ("shift", test)):
        counts = ", ".join(f"{NAMES[k]} {int((tiles.label == k).sum())}" for k in range(3))
        filled = int((tiles.inside[tiles.label == 0] > 0).sum())
        print(f"{name}: {len(np.unique(tiles.slide))} slides; tiles: {counts} ({filled} of the first in a confounder)")
    passed = True
    for what, limit in LIMITS.items():
        x, y = getattr(train, what), getattr(test, what)
        for name, judge in judges().items():
            inner = cross_val_predict(judge, x, train.label, groups=train.slide, cv=GroupKFold(5))
            called = judge.fit(x, train.label).predict(y)
            score, (low, high) = balanced(test.label, called), interval(test.label, called, test.slide)
            recalls = "/".join(f"{r:.2f}" for r in recall_score(test.label, called, average=None))
            passed &= score <= limit
            print(
                f"{what:8} {name:20} shift {score:.3f} ({low:.3f} to {high:.3f}), limit {limit:.2f}: "
                f"{'ok' if score <= limit else 'TOO EASY'}; recalls {recalls}; "
                f"within train {balanced(train.label, inner):.3f}"
            )
    both = Tiles(*(np.concatenate(pair) for pair in zip(train, test, strict=True)))
    for k, partners in PARTNERS.items():
        found = {p: both.colour[(both.label == 0) & (both.inside == CONFOUNDERS.get(p, -1))] for p in partners}
        own = both.colour[both.label == k]
        shown = [f"{p} {overlap(own, c):.2f} (n {len(c)})" for p, c in found.items() if len(c) >= 10]
        print(f"overlap of mean optical density with {NAMES[k]} (n {len(own)}), 0.50 wanted: {', '.join(shown)}")
    return passed


def main() -> None:
    """Make or find the cohorts, measure, judge; exit with 1 where the phantoms are too easy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=501)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    given = parser.parse_args()
    tiles = {}
    for number, domain in enumerate(("train", "shift")):
        folder = given.cohorts / f"gate-{domain}-{given.seed}-{given.slides}-{given.size}"
        make_cohort(
            folder,
            slides=given.slides,
            seed=given.seed + number,
            domain=domain,
            size_px=(given.size, given.size),
            workers=given.workers,
        )
        tiles[domain] = measure(folder)
    print("SYNTHETIC, no clinical meaning.")
    sys.exit(0 if report(tiles["train"], tiles["shift"]) else 1)


if __name__ == "__main__":
    main()
