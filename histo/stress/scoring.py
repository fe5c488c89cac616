"""Making the slides of one source, disturbing them, and asking the model: the work that is shared among processes."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from histo.data.slide_file import sha256_of
from histo.errors import ArchiveError, UsageError
from histo.infer import predict_slide
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.outlines import area_px2, paint, to_polygon
from histo.processes import follow_parent, side_by_side
from histo.results import SlidePrediction
from histo.stress.disturb import CLEAN, disturb, read_picture, write_picture
from histo.stress.picture import Picture
from histo.stress.seen import Store, of_prediction
from histo.stress.views import Made, Source, View, make

log = logging.getLogger("histo")
NEAR_UM = 16.0  # a lesion this near to a true one has met it: one cell of the usual map
AROUND_UM = 160.0  # the tissue's reaction to a lesion, and about what a network sees of it


@dataclass(frozen=True)
class Work:
    """Where slides and results are kept, and the model that is asked."""

    model: Model
    phantoms: Path
    store: Store
    device: str
    cores: int


Task = tuple[Source, tuple[View, ...]]
Done = Callable[[int], None]


def missing(tasks: Sequence[Task], work: Work) -> list[Task]:
    """Return the tasks with the views that must still be scored.

    A record counts while the slide that it was made from is unchanged; that slide may have been deleted.
    """
    left: list[Task] = []
    for source, views in tasks:
        slide = work.phantoms / f"{source.key}.svs"
        now = sha256_of(slide) if slide.is_file() else None
        kept = ((view, work.store.has(view.key, view.keep_map)) for view in views)
        todo = tuple(view for view, seen in kept if seen is None or (now or seen.source_sha256) != seen.source_sha256)
        if todo:
            left.append((source, todo))
    return left


def score_task(task: Task, work: Work, engines: Engines, stopped: Callable[[], bool] = lambda: False) -> int:
    """Score every view of one source and keep what was said; return how many. Ends before a view once `stopped`.

    A source without room for what it should hold is left out, as its tests will say.
    """
    source, views = task
    try:
        made = make(source, work.phantoms)
    except UsageError as error:
        log.warning("%s", error)
        return len(views)
    content = sha256_of(made.slide)
    picture: Picture | None = None
    for view in views:
        if stopped():
            break
        if view.name == CLEAN:
            prediction = _ask(made.slide, work, engines)
        else:
            picture = picture or read_picture(made.slide, source.stain(made.attempt))
            path = work.phantoms / f".{view.key}.{os.getpid()}.svs"
            try:
                write_picture(path, disturb(picture, view.name, dict(view.numbers), source.key))
                prediction = _ask(path, work, engines)
            finally:
                path.unlink(missing_ok=True)
        _keep(view, made, content, prediction, work)
    return len(views)


def _ask(path: Path, work: Work, engines: Engines) -> SlidePrediction:
    return predict_slide(path, work.model, engines=engines, readers=1, slide_id="view")


def _keep(view: View, made: Made, content: str, prediction: SlidePrediction, work: Work) -> None:
    met: dict[str, list[bool]] = {}
    true: dict[str, float] = {}
    if view.name == CLEAN:
        met, true = _truth(made, prediction, work)
    if view.keep_map and prediction.slide_map is not None:
        slide_map = prediction.slide_map
        usable = slide_map.valid & (slide_map.tissue > 0.5)
        work.store.write_map(view.key, slide_map.probability, usable & ~_near_lesions(made, prediction))
    elif view.keep_map:
        work.store.write_map(view.key, np.zeros((0, 0, 0), np.float16), np.zeros((0, 0), bool))
    work.store.write(of_prediction(prediction, view.key, (content, made.attempt), met, true))


def _truth(made: Made, prediction: SlidePrediction, work: Work) -> tuple[dict[str, list[bool]], dict[str, float]]:
    """Return, per true class, whether each lesion was met by one of the class with its verdict, and the area in mm²."""
    result = prediction.result
    mpp = made.record()["mpp"]
    verdicts = {"calcification": "calcinosis_cutis", "bone": "heterotopic_ossification"}
    names = {c.name: c.verdict for c in work.model.card.classes.lesions}
    found = [(names[x.class_name], to_polygon(x.outline)) for x in result.lesions]
    met: dict[str, list[bool]] = {}
    true: dict[str, float] = {}
    for name, outline in made.outlines():
        polygon = to_polygon(outline)
        hit = any(v == verdicts[name] and polygon.distance(p) * mpp <= NEAR_UM for v, p in found)
        met.setdefault(name, []).append(hit)
        true[name] = true.get(name, 0.0) + area_px2(outline) * mpp * mpp * 1e-6
    return met, true


def _near_lesions(made: Made, prediction: SlidePrediction) -> np.ndarray:
    """Return the map's cells (H, W) within `AROUND_UM` of a true lesion."""
    assert prediction.slide_map is not None
    grid = prediction.slide_map.grid
    near = np.zeros(grid.shape, np.uint8)
    paint(near, [outline for _, outline in made.outlines()], grid, 1)
    away = ndimage.distance_transform_edt(near == 0, sampling=grid.cell_um[::-1]) if near.any() else np.inf
    return np.asarray(np.broadcast_to(away, grid.shape) <= AROUND_UM)


def score_all(tasks: Sequence[Task], work: Work, workers: int, done: Done) -> None:
    """Score all tasks in that many processes; `done(views)` is told after each task.

    One source is one task, so that no two processes make the same slide.

    Raises `ArchiveError` when a process is killed. What was scored until then is kept.
    """
    for left_behind in work.phantoms.glob(".*.svs"):  # by a run that was killed
        left_behind.unlink(missing_ok=True)
    if workers == 1:
        engines = Engines(work.model, "auto", work.device, work.cores)
        for task in tasks:
            done(score_task(task, work, engines))
        return
    stopped = multiprocessing.get_context("spawn").Event()  # so that Ctrl-C costs no more than the views at work
    try:
        with closing(side_by_side(_score, tasks, workers, _settle, (work, stopped), stopped.set)) as scored:
            for views in scored:
                done(views)
    except BrokenProcessPool as error:
        raise ArchiveError(
            "a process that scored slides was killed, most likely for want of memory; run the same command with fewer "
            "--workers or a smaller --size"
        ) from error


_STATE: dict[str, Any] = {}


def _settle(work: Work, stopped: Event) -> None:
    """Give a process its model and engine, leave Ctrl-C to the parent, and end it with its parent."""
    follow_parent()
    cv2.setNumThreads(work.cores)
    _STATE.update(stopped=stopped.is_set, work=work, engines=Engines(work.model, "auto", work.device, work.cores))


def _score(task: Task) -> int:
    return score_task(task, _STATE["work"], _STATE["engines"], _STATE["stopped"])
