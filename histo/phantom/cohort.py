"""Many slides of many patients with a manifest, made in parallel and resumed where they stopped."""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from histo.errors import UsageError
from histo.phantom.recipe import KINDS, LABELS
from histo.phantom.slide import files_of, make_slide, parameters

_SHARES: Final = {
    "normal": 0.25,
    "confounder": 0.2,
    "calcinosis_cutis": 0.25,
    "heterotopic_ossification": 0.2,
    "mixed": 0.1,
}
HEADER: Final = ("slide", "path", "patient", "label", "annotation")


@dataclass(frozen=True)
class Job:
    """One slide to make."""

    name: str
    patient: str
    kind: str
    seed: int
    patient_seed: int


def plan_cohort(slides: int, seed: int) -> list[Job]:
    """Deal kinds to patients of one to three slides; the same seed always gives the same list."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    exact = np.array([_SHARES[k] for k in KINDS]) * slides
    counts = np.floor(exact).astype(int)
    for k in np.argsort(counts - exact, kind="stable")[: slides - int(counts.sum())]:
        counts[k] += 1
    kinds = [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
    kinds = [kinds[k] for k in rng.permutation(slides)]
    jobs: list[Job] = []
    patient = 0
    while len(jobs) < slides:
        patient_seed = int(rng.integers(1, 2**48))
        for _ in range(int(rng.integers(1, 4))):
            if len(jobs) < slides:
                number = len(jobs)
                slide_seed = int(rng.integers(1, 2**48))
                jobs.append(
                    Job(f"phantom_{number:04d}", f"patient_{patient:04d}", kinds[number], slide_seed, patient_seed)
                )
        patient += 1
    return jobs


def _make(folder: Path, job: Job, size_px: tuple[int, int], domain: str) -> None:
    cv2.setNumThreads(1)  # the processes already share the cores
    make_slide(
        folder,
        job.name,
        kind=job.kind,
        seed=job.seed,
        size_px=size_px,
        domain=domain,
        patient_seed=job.patient_seed,
    )


def is_made(folder: Path, job: Job, size_px: tuple[int, int], domain: str) -> bool:
    """Tell whether the slide is there, whole, and made with these parameters."""
    files = files_of(folder, job.name, job.kind)
    if not all(p.is_file() for p in (files.slide, files.geojson, files.mask, files.json)):
        return False
    wanted = parameters(
        kind=job.kind, seed=job.seed, size_px=size_px, mpp=0.5, domain=domain, patient_seed=job.patient_seed
    )
    try:
        record = json.loads(files.json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and all(record.get(k) == v for k, v in wanted.items())


def make_cohort(
    folder: Path,
    *,
    slides: int,
    seed: int,
    domain: str = "train",
    size_px: tuple[int, int] = (6000, 6000),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make `slides` slides and return their manifest; slides already made are kept.

    `progress` is told (done, all) after every slide. The result does not depend on the number of workers.
    """
    if slides < 1:
        raise UsageError(f"a cohort of {slides} slides is empty; ask for at least one")
    jobs = plan_cohort(slides, seed)
    parameters(kind=KINDS[0], seed=seed, size_px=size_px, mpp=0.5, domain=domain, patient_seed=None)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not is_made(folder, job, size_px, domain)]
    done = slides - len(missing)
    if progress and done:
        progress(done, slides)
    count = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    if count == 1:
        for job in missing:
            _make(folder, job, size_px, domain)
            done += 1
            if progress:
                progress(done, slides)
    else:
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            for future in as_completed([pool.submit(_make, folder, j, size_px, domain) for j in missing]):
                future.result()
                done += 1
                if progress:
                    progress(done, slides)
    return _write_manifest(folder, jobs)


def _write_manifest(folder: Path, jobs: list[Job]) -> Path:
    path = folder / "slides.csv"
    temporary = folder / ".slides.csv"
    with temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADER)
        for job in jobs:
            writer.writerow((job.name, f"{job.name}.svs", job.patient, LABELS[job.kind], f"{job.name}.geojson"))
    os.replace(temporary, path)
    return path
