"""Many slides of many patients with a manifest, made in parallel and resumed where they stopped."""

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from histo.errors import ArchiveError, UsageError
from histo.files import write_table
from histo.phantom.kinds import label_of, look_alike
from histo.phantom.recipe import KINDS
from histo.phantom.slide import is_made, made_otherwise, make_slide, parameters
from histo.phantom.spec import CohortSpec, Group, spec_from
from histo.processes import side_by_side
from histo.timing import Progress

HEADER: Final = (
    "slide", "path", "patient", "label", "annotation", "split",
    "group", "kind", "domain", "seed", "mask", "twin_of", "varied",
)  # fmt: skip
MANIFEST: Final = "slides.csv"


@dataclass(frozen=True, eq=False)
class Job:
    """One slide to make: its checked parameters, and what the manifest says of it."""

    name: str
    patient: str
    group: str
    split: str
    asked: dict[str, Any]
    twin_of: str = ""
    varied: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        """The slide's line in the manifest."""
        asked = self.asked
        label = label_of(asked["kind"], asked["lesions"])
        files = (f"{self.name}.svs", f"{self.name}.geojson", f"{self.name}.mask.tif")
        return (
            self.name, files[0], self.patient, label, files[1], self.split,
            self.group, asked["kind"], asked["domain"], str(asked["seed"]), files[2], self.twin_of, self.varied,
        )  # fmt: skip


def plan_cohort(spec: CohortSpec) -> list[Job]:
    """Draw patients, kinds, sizes and seeds; the same specification always gives the same list.

    A group draws from a stream of its own: changing one leaves the others' slides as they are, but for their numbers.
    """
    jobs: list[Job] = []
    slides = patients = 0
    for number, group in enumerate(spec.groups):
        rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(number,) if number else ()))
        dealt = _deal(group, rng)
        for patient, patient_seed, kind, seed, size_px in dealt:
            who = f"patient_{patients + patient:04d}"
            jobs += _variants(group, f"phantom_{slides:04d}", who, (patient_seed, seed), kind, size_px)
            slides += 1
        patients += 1 + max(patient for patient, *_ in dealt)
    return jobs


def _deal(group: Group, rng: np.random.Generator) -> list[tuple[int, int, str, int, tuple[int, int]]]:
    """Return (number of the patient, its seed, kind, the slide's seed, size) of every slide of a group."""
    counts = [group.draw_count(rng) for _ in range(group.patients or 0)]
    slides = group.slides or sum(counts)
    per_patient = group.kind_of == "patient"
    kinds = _deal_kinds(group, len(counts) if per_patient else slides, rng)
    dealt: list[tuple[int, int, str, int, tuple[int, int]]] = []
    patient = 0
    while len(dealt) < slides:
        patient_seed = int(rng.integers(1, 2**48))
        count = counts[patient] if counts else group.draw_count(rng)
        for _ in range(min(count, slides - len(dealt))):
            kind = kinds[patient if per_patient else len(dealt)]
            seed = int(rng.integers(1, 2**48))
            dealt.append((patient, patient_seed, kind, seed, group.draw_size(rng)))
        patient += 1
    return dealt


def _deal_kinds(group: Group, count: int, rng: np.random.Generator) -> list[str]:
    """Shuffle kinds whose numbers come as near to their shares as whole numbers can."""
    names = sorted(group.kinds, key=lambda k: (KINDS.index(k) if k in KINDS else len(KINDS), k))
    shares = np.array([group.kinds[k] for k in names])
    exact = shares / shares.sum() * count
    counts = np.floor(exact + 1e-9).astype(int)
    for k in np.argsort(counts - exact, kind="stable")[: count - int(counts.sum())]:
        counts[k] += 1
    kinds = [kind for kind, many in zip(names, counts, strict=True) for _ in range(many)]
    return [kinds[k] for k in rng.permutation(count)]


def _variants(
    group: Group, name: str, patient: str, seeds: tuple[int, int], kind: str, size_px: tuple[int, int]
) -> list[Job]:
    """Return one slide in all its variants, and each variant's twin without lesions where the group wants them."""
    jobs = []
    variants = group.variants()
    for k, settings in enumerate(variants):
        here = f"{name}_v{k}" if len(variants) > 1 else name
        varied = "; ".join(f"{key}={settings[key]}" for key in group.vary)
        for lesions in (group.lesions, False)[: 1 + group.twins]:
            asked = parameters(
                kind=kind,
                seed=seeds[1],
                size_px=size_px,
                mpp=group.mpp,
                domain=group.domain,
                patient_seed=seeds[0],
                lesions=lesions,
                overrides=settings,
            )
            if lesions == group.lesions:
                jobs.append(Job(here, patient, group.name, group.split or "", asked, varied=varied))
            elif kind not in ("normal", "confounder") and look_alike(kind) is None:
                jobs.append(Job(f"{here}_twin", patient, group.name, group.split or "", asked, here, varied))
    return jobs


def make_cohort(
    folder: Path,
    *,
    slides: int,
    seed: int,
    domain: str = "train",
    size_px: tuple[int, int] = (6000, 6000),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make `slides` slides of all kinds and return their manifest, see `make_from_spec`."""
    group = {"slides": slides, "domain": domain, "size_px": [f"{size_px[0]}x{size_px[1]}"]}
    return make_from_spec(folder, spec_from({"seed": seed, "groups": [group]}, "cohort", "groups.0"), workers, progress)


def make_from_spec(
    folder: Path, spec: CohortSpec, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Make the slides of a specification and return their manifest; slides made with the same parameters are kept.

    `progress` is told (done, all) after every slide. The result does not depend on the number of workers. Raises
    `UsageError` where the folder holds slides of another cohort, which would be lost.
    """
    jobs = plan_cohort(spec)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not is_made(folder, job.name, job.asked)]
    for job in missing:
        if other := made_otherwise(folder, job.name, job.asked):
            raise UsageError(
                f"{folder} holds another cohort ({job.name} differs in {', '.join(other)}): another seed, number, size "
                "or file of slides; give this one a folder of its own"
            )
    if _is_edited(folder / MANIFEST, jobs):
        raise UsageError(f"{folder / MANIFEST} was changed since it was made; move it away, or give another folder")
    done = len(jobs) - len(missing)
    if progress and done:
        progress(done, len(jobs))

    def tell() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, len(jobs))

    count = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    if count == 1:
        for job in missing:
            _make(folder, job)
            tell()
    else:
        _make_in_parallel(folder, missing, count, tell)
    path = folder / MANIFEST
    write_table(path, HEADER, [job.row for job in jobs])
    return path


def _is_edited(manifest: Path, jobs: Sequence[Job]) -> bool:
    """Tell whether a manifest that is there has other columns, values or slides than a cohort, or is no such table."""
    if not manifest.exists():
        return False
    try:
        with open(manifest, encoding="utf-8", newline="") as file:
            header, *rows = [tuple(row) for row in csv.reader(file)] or [HEADER]
    except (UnicodeDecodeError, csv.Error):
        return True
    planned, without_twins = [job.row for job in jobs], [job.row for job in jobs if not job.twin_of]
    return header != HEADER or all(rows != full[: len(rows)] for full in (planned, without_twins))


def _make_in_parallel(folder: Path, jobs: list[Job], count: int, tell: Callable[[], None]) -> None:
    try:
        with closing(side_by_side(partial(_make, folder), jobs, count)) as made:
            for _ in made:
                tell()
    except BrokenProcessPool as error:
        raise ArchiveError(
            f"a worker that made slides in {folder} was killed, most likely for want of memory; "
            "run the same command with fewer --workers or smaller slides"
        ) from error


def _make(folder: Path, job: Job) -> None:
    cv2.setNumThreads(1)  # the processes already share the cores
    asked = dict(job.asked)
    asked.pop("format")
    make_slide(folder, job.name, **asked)
