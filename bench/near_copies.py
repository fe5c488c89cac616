"""How surely near copies of a slide are told from other slides, of the same patient and of others.

    python bench/near_copies.py MANIFEST [SLIDE …] [--every 3]

Compares every pair of slides of a manifest (and further slides, each a patient of its own, at 0.5 µm per pixel), then
stores every third anew (JPEG, rescaled, cropped, recoloured) and looks for its original. Prints n and counts.
"""

import argparse
import csv
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from histo.data.likeness import ALIKE, SAME, Fingerprint, fingerprint, likeness, near_copies
from histo.data.overview import read_overview
from histo.data.slide import open_slide
from histo.data.tissue import find_tissue
from histo.phantom.pyramid import write_slide

Rgb = NDArray[np.uint8]


def print_of(path: Path, mpp: float | None) -> Fingerprint | None:
    """Return a slide's fingerprint as `histo manifest check` takes it."""
    with open_slide(path, mpp) as slide:
        overview, lost = read_overview(slide)
    return fingerprint(overview, find_tissue(overview, lost).mask)


def stored_anew(rgb: Rgb, rng: np.random.Generator) -> Iterator[tuple[str, Rgb, float]]:
    """Yield the picture under every change, with its true µm per pixel."""
    height, width = rgb.shape[:2]
    for factor in (0.5, 0.8, 1.37):
        yield f"rescaled by {factor}", _resized(rgb, factor), 0.5 / factor
    yield "half size, scale not mended", _resized(rgb, 0.5), 0.5
    for share in (0.02, 0.05, 0.08, 0.10):
        left, right = (int(rng.uniform(0, share) * width) for _ in range(2))
        top, bottom = (int(rng.uniform(0, share) * height) for _ in range(2))
        yield f"cropped by up to {share:.0%} a side", rgb[top : height - bottom, left : width - right], 0.5
    yield "recoloured", np.clip(rgb * np.array([0.95, 0.9, 1.0]) + 5, 0, 255).astype(np.uint8), 0.5
    yield "JPEG of quality 45", rgb, 0.5


def _resized(rgb: Rgb, factor: float) -> Rgb:
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("slides", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=3)
    given = parser.parse_args()
    with open(given.manifest, encoding="utf-8", newline="") as file:
        rows = [(given.manifest.parent / r["path"], r["patient"], None) for r in csv.DictReader(file)]
    slides: list[tuple[Path, str, float | None]] = [*rows, *((p, p.name, 0.5) for p in given.slides)]
    prints = [print_of(path, mpp) for path, _, mpp in slides]
    alike: dict[bool, list[float]] = defaultdict(list)
    for one, other in itertools.combinations(range(len(slides)), 2):
        a, b = prints[one], prints[other]
        if a is not None and b is not None:
            alike[slides[one][1] == slides[other][1]].append(likeness(a, b))
    flagged = near_copies(prints)
    for same, name in ((True, "one patient"), (False, "two patients")):
        wrong = sum((slides[a][1] == slides[b][1]) == same for a, b, _ in flagged)
        most = max(alike[same], default=0.0)
        print(f"pairs of {name}: {len(alike[same])}, likeness at most {most:.2f}, taken for copies {wrong}")
    found: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for (path, _, _), original in list(zip(slides, prints, strict=True))[:: given.every]:
            with openslide.OpenSlide(path) as handle:
                rgb = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))[..., :3]
            for name, picture, mpp in stored_anew(rgb, rng):
                copy = Path(folder) / "copy.svs"
                write_slide(copy, np.ascontiguousarray(picture), mpp, 45 if name.startswith("JPEG") else 90)
                again = print_of(copy, mpp)
                pairs = near_copies([original, again])
                found[name].append(pairs[0][2] if pairs else 0.0)
    for name, values in found.items():
        told, sure = sum(v >= ALIKE for v in values), sum(v >= SAME for v in values)
        print(f"{name}: found {told} of {len(values)}, beyond doubt {sure}, likeness at least {min(values):.2f}")


if __name__ == "__main__":
    main()
