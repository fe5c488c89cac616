"""Working through many slides on this machine: every slide attempted, done work kept, results whole or absent."""

import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from histo.archive.examine import RunOptions, examine
from histo.archive.ledger import Entry, Ledger
from histo.archive.listing import absolute, holds_slides, list_slides, name_slides
from histo.archive.profiling import RunProfile
from histo.archive.result_folder import is_of_others
from histo.archive.store import Store
from histo.archive.workers import Task, Workers
from histo.data.slide import check_mpp
from histo.data.slide_file import sha256_of
from histo.errors import HistoError, SlideFailed, UsageError
from histo.files import write_text
from histo.infer import check_mode, settings_of
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.opening import Opened, open_for, state_of
from histo.out_folder import LEDGER, PROFILE, RESULTS, RUN
from histo.owning import owned, stopped_by
from histo.results import SlideResult
from histo.timing import Progress, Say

log = logging.getLogger("histo")

Prepared = tuple[SlideResult | None, Opened | None]


@dataclass(frozen=True)
class Step:
    """What happened to one slide of a run; `kept` says that its result is from an earlier run."""

    number: int
    total: int
    result: SlideResult
    kept: bool
    seconds: float


def run_slides(
    paths: Sequence[Path],
    out: Path,
    model: Model,
    options: RunOptions,
    on_step: Callable[[Step], None] = lambda step: None,
    on_start: Callable[[str], Progress | None] = lambda slide_id: None,
    say: Say = lambda line: None,
) -> list[SlideResult]:
    """Examine all slides into `out` and return their results; a slide done before, unchanged, is not computed again.

    `say` is told what the tables leave out, or count twice.
    Lesions are in each slide's `result.json` and not in what is returned: the outlines of an archive fill the memory.
    Every slide gets its folder under `slides/`, its ledger row, and its line in `slides.csv` and `index.html`.
    Raises `ArchiveError` when the folder, the disk or the ledger stops the run, or another run owns the folder.
    """
    check_mode(options.mode, model)
    if options.profile and options.workers > 1:
        raise UsageError("--profile measures one process; leave out --workers")
    if None not in (options.mpp, options.mpp_if_missing):
        raise UsageError("--mpp is for every slide and --mpp-if-missing for those without a scale; give one of them")
    check_mpp(options.mpp)
    check_mpp(options.mpp_if_missing, "--mpp-if-missing")
    engines = Engines(model, options.engine, options.device)
    slides = list_slides(paths)
    _check_out(out, paths, slides)  # before anything is written or removed there
    with owned(out):
        ledger = Ledger(out / LEDGER)
        try:
            return _Run(out, model, options, engines, Store(out, model, ledger)).work(slides, on_step, on_start, say)
        except OSError as error:
            raise stopped_by(out, error) from error
        finally:
            ledger.close()


def _check_out(out: Path, paths: Sequence[Path], slides: Sequence[Path]) -> None:
    """Raise `UsageError` where results would lie among slides, or among other things that are not histo's."""
    if slide := next(filter(None, map(holds_slides, (out, out / RESULTS))), None):
        raise UsageError(f"--out {out} holds a slide ({slide}); give another one: nothing is written beside slides")
    if any(os.path.isdir(p) and os.path.realpath(p) == os.path.realpath(out) for p in paths):
        raise UsageError(f"--out {out} is the folder of the slides themselves; give another one")
    here, results = os.path.realpath(out), os.path.realpath(out / RESULTS)
    for slide in slides:
        folder = os.path.realpath(slide.parent)
        if not os.path.isdir(slide) and (folder == here or (folder + os.sep).startswith(results + os.sep)):
            raise UsageError(f"--out {out} would put results beside {slide}; give another one")
    if other := next(filter(is_of_others, sorted((out / RESULTS).glob("[!.@]*"))), None):
        raise UsageError(f"{other} is no result of histo and is left alone; give another --out")


class _Run:
    def __init__(self, out: Path, model: Model, options: RunOptions, engines: Engines, store: Store) -> None:
        self.out, self.model, self.options, self.engines, self.store = out, model, options, engines, store
        self.profile = RunProfile(out / PROFILE)

    def work(
        self,
        found: Sequence[Path],
        on_step: Callable[[Step], None],
        on_start: Callable[[str], Progress | None],
        say: Say,
    ) -> list[SlideResult]:
        known = self.store.known()
        names = name_slides(found, {path: e.slide_id for path, e in known.items()})
        self._describe()
        results: dict[int, SlideResult] = {}
        several = self.options.workers > 1
        try:
            slides = [_Named(n, path, slide_id) for n, (path, slide_id) in enumerate(names.items(), start=1)]
            for step in (self._side_by_side if several else self._one_by_one)(slides, known, on_start):
                results[step.number] = replace(step.result, lesions=())
                on_step(step)
        finally:
            # Also after Ctrl-C: the tables then say what is there.
            for line in self.store.tabulate({absolute(path) for path in names}):
                say(line)
            if self.profile.slides:
                self.profile.write()
        return [results[number] for number in sorted(results)]

    def _one_by_one(
        self, slides: list["_Named"], known: dict[str, Entry], on_start: Callable[[str], Progress | None]
    ) -> Iterator[Step]:
        """Examine slides in order; the next one is opened and its tissue found while this one is computed.

        With a profile nothing is done ahead: its time would be in no slide's.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="histo-ahead") as ahead:
            try:
                ready: list[Future[Prepared]] = []
                for slide, following in itertools.zip_longest(slides, slides[1:]):
                    started = time.monotonic()
                    ready = ready or [ahead.submit(self._prepare, slide, known.get(absolute(slide.path)))]
                    kept, opened = _result(ready.pop())
                    if following is not None and not self.options.profile:
                        ready = [ahead.submit(self._prepare, following, known.get(absolute(following.path)))]
                    if kept is None:
                        folder = self.store.temporary(slide.slide_id)
                        progress = on_start(slide.slide_id)
                        result = examine(
                            slide.path,
                            slide.slide_id,
                            folder,
                            self.model,
                            self.options,
                            self.engines,
                            opened,
                            progress,
                        )
                        self.store.enter(slide.path, slide.slide_id, result, time.monotonic() - started)
                    else:
                        result = kept
                    seconds = time.monotonic() - started
                    if self.options.profile and opened is not None and result.verdict is not None:
                        self.profile.add(slide.slide_id, opened, self.engines, seconds)
                    yield Step(slide.number, len(slides), result, kept is not None, seconds)
            finally:
                ahead.shutdown(cancel_futures=True)

    def _side_by_side(
        self, slides: list["_Named"], known: dict[str, Entry], on_start: Callable[[str], Progress | None]
    ) -> Iterator[Step]:
        """Examine slides on several processes, in the order in which they are finished or found kept."""
        started: dict[int, float] = {}

        def entered(finished: Iterator[tuple[Task, SlideResult]]) -> Iterator[Step]:
            for task, result in finished:
                seconds = time.monotonic() - started[task.number]
                self.store.enter(task.path, task.slide_id, result, seconds)
                yield Step(task.number, len(slides), result, False, seconds)

        with Workers(self.model, self.options) as workers:
            for slide in slides:
                began = time.monotonic()
                old, _ = self._kept(slide, known.get(absolute(slide.path)))
                if old is not None:
                    yield Step(slide.number, len(slides), old, True, time.monotonic() - began)
                    continue
                yield from entered(workers.until_free())
                started[slide.number] = time.monotonic()
                on_start(slide.slide_id)
                workers.start(Task(slide.number, slide.path, slide.slide_id, self.store.temporary(slide.slide_id)))
            yield from entered(workers.until_done())

    def _prepare(self, slide: "_Named", entry: Entry | None) -> Prepared:
        """Return the result of an earlier run if it still holds, else the slide, opened."""
        before = state_of(slide.path)
        kept, sha256 = self._kept(slide, entry)
        if kept is not None:
            return kept, None
        if state_of(slide.path) != before:
            sha256 = None  # it is still being written: that is the hash of what it was
        return None, open_for(slide.path, self.model, self.options.of(slide.path).mpp, sha256)

    def _kept(self, slide: "_Named", entry: Entry | None) -> tuple[SlideResult | None, str | None]:
        """Return the result of an earlier run if it still holds, and the slide's SHA-256 if that was needed to tell."""
        held = self.store.held(entry, self.options) if entry else None
        if entry is None or held is None:
            return None, None
        sha256 = _digest(slide.path)
        return (held if self.store.is_of(held, entry, slide.path, sha256) else None), sha256

    def _describe(self) -> None:
        info = {
            "model": self.model.card.name,
            "model_digest": self.model.digest,
            "settings": settings_of(self.options.mpp, self.options.device, self.options.mode),
            "mpp_if_missing": self.options.mpp_if_missing,
            "device": self.options.device,
        }
        write_text(self.out / RUN, json.dumps(info, indent=1) + "\n")


@dataclass(frozen=True)
class _Named:
    """A slide of the run: its place, path and id."""

    number: int
    path: Path
    slide_id: str


def _result(ready: "Future[Prepared]") -> Prepared:
    """Return what was prepared; where that broke, the slide is examined from the start and breaks as its own result."""
    try:
        return ready.result()
    except (HistoError, OSError):
        raise
    except Exception as error:
        log.debug("a slide could not be opened ahead, and is opened again: %r", error)
        return None, None


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except SlideFailed:
        return None
