"""Worker processes: each examines one slide at a time with its share of the cores; only the parent keeps the books."""

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from histo.archive.examine import RunOptions, examine, give_up
from histo.models.bundle import Model
from histo.models.engine import Engines, device_kind, usable_cores
from histo.processes import follow_parent, share_one_heap
from histo.results import SlideResult

log = logging.getLogger("histo")


@dataclass(frozen=True)
class Task:
    """A slide to examine into `folder`; `number` is its place in the run."""

    number: int
    path: Path
    slide_id: str
    folder: Path


class Workers:
    """Runs tasks on processes of their own, so that a slide that kills its process costs that slide alone."""

    def __init__(self, model: Model, options: RunOptions) -> None:
        self._model, self._options = model, options
        self._pools: list[ProcessPoolExecutor | None] = [None] * options.workers
        self._running: dict[Future[SlideResult], tuple[int, Task]] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:  # whoever interrupts doesn't wait for slides that would be thrown away
            for pool in self._pools:  # ProcessPoolExecutor.kill_workers, which Pythons before 3.14 lack
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    process.kill()
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def until_free(self) -> Iterator[tuple[Task, SlideResult]]:
        """Yield tasks with their results as they are finished, until a process has nothing to do."""
        while len(self._running) == len(self._pools):
            yield from self._finished()

    def until_done(self) -> Iterator[tuple[Task, SlideResult]]:
        """Yield all tasks with their results as they are finished."""
        while self._running:
            yield from self._finished()

    def _finished(self) -> Iterator[tuple[Task, SlideResult]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            place, task = self._running.pop(future)
            yield task, self._result(place, task, future)

    def start(self, task: Task) -> None:
        """Hand a task to a process that has nothing to do, see `until_free`."""
        place = min(set(range(len(self._pools))) - {place for place, _ in self._running.values()})
        pool = self._pools[place] or self._pool(place)
        try:
            future = pool.submit(_work, task)
        except BrokenProcessPool:  # it was killed while it had nothing to do
            pool = self._pool(place)
            future = pool.submit(_work, task)
        self._pools[place] = pool
        self._running[future] = place, task

    def _result(self, place: int, task: Task, future: Future[SlideResult]) -> SlideResult:
        try:
            return future.result()
        except BrokenProcessPool:
            self._pools[place] = None
            error = RuntimeError("its worker process was killed, by the system for want of memory or by the file")
            return give_up(task.path, task.slide_id, task.folder, self._model, self._options, error)

    def _pool(self, place: int) -> ProcessPoolExecutor:
        cores = max(1, usable_cores() // self._options.workers)
        return ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self._model, self._options, cores, _gpu_of(self._options.device, place), log.getEffectiveLevel()),
        )


class _State:
    model: Model
    options: RunOptions
    engines: Engines


def _begin(model: Model, options: RunOptions, cores: int, gpu: str | None, level: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent, and ends when its parent does, however that ends."""
    share_one_heap()
    follow_parent()
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    _State.model, _State.options = model, options
    _State.engines = Engines(model, options.engine, options.device, cores, gpu)


def _work(task: Task) -> SlideResult:
    return examine(task.path, task.slide_id, task.folder, _State.model, _State.options, _State.engines)


def _gpu_of(device: str, place: int) -> str | None:
    """Spread workers over the GPUs; None where there is none to choose."""
    if device not in ("auto", "cuda") or device_kind(device) == "cpu":
        return None
    import torch

    return f"cuda:{place % torch.cuda.device_count()}"
