"""Working through many slides on this machine: every slide attempted, done work kept, results whole or absent."""

import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from histo.archive.examine import RunOptions, examine
from histo.archive.ledger import Entry, Ledger
from histo.archive.listing import LEDGER, RESULTS, absolute, holds_slides, list_slides, name_slides
from histo.archive.profiling import RunProfile
from histo.archive.workers import Task, Workers
from histo.data.slide import check_mpp, companions_of
from histo.data.slide_file import sha256_of
from histo.errors import ArchiveError, HistoError, SlideFailed, UsageError
from histo.export.index import write_index
from histo.export.tables import write_slides
from histo.files import sync, write_text
from histo.infer import check_mode, digest_of, settings_of
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.opening import Opened, open_for
from histo.results import SlideResult, load_result
from histo.timing import Progress

log = logging.getLogger("histo")
TEMPORARY = ".tmp-"
FINAL = ("done", "review", "refused")  # a failed slide is tried again: a disk or a network may have been the cause


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
    say: Callable[[str], None] = lambda line: None,
) -> list[SlideResult]:
    """Examine all slides into `out` and return their results; a slide done before, unchanged, is not computed again.

    `say` is told what the tables leave out.
    Lesions are in each slide's `result.json` and not in what is returned: the outlines of an archive fill the memory.
    Every slide gets its folder under `slides/`, its ledger row, and its line in `slides.csv` and `index.html`.
    Raises `ArchiveError` when the folder, the disk or the ledger stops the run, or another run owns the folder.
    """
    check_mode(options.mode, model)
    if options.profile and options.workers > 1:
        raise UsageError("--profile measures one process; leave out --workers")
    if None not in (options.mpp, options.mpp_if_missing):
        raise UsageError("--mpp is for every slide and --mpp-if-missing for those without a scale; give one of them")
    check_mpp(options.mpp_if_missing, "--mpp-if-missing")
    if slide := next(filter(None, map(holds_slides, (out, out / RESULTS))), None):
        raise UsageError(f"--out {out} holds a slide ({slide}); give another one: nothing is written beside slides")
    if any(os.path.isdir(p) and os.path.realpath(p) == os.path.realpath(out) for p in paths):
        raise UsageError(f"--out {out} is the folder of the slides themselves; give another one")
    with _owned(out):
        ledger = Ledger(out / LEDGER)
        try:
            return _Run(out, model, options, ledger).work(paths, on_step, on_start, say)
        except OSError as error:
            raise _stopped(out, error) from error
        finally:
            ledger.close()


class _Run:
    def __init__(self, out: Path, model: Model, options: RunOptions, ledger: Ledger) -> None:
        self.out, self.model, self.options, self.ledger = out, model, options, ledger
        self.slides = out / RESULTS
        self.slides.mkdir(exist_ok=True)
        self.engines = Engines(model, options.engine, options.device)
        self.profile = RunProfile(out / "profile.json")
        for left_over in self.slides.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left_over)

    def work(
        self,
        paths: Sequence[Path],
        on_step: Callable[[Step], None],
        on_start: Callable[[str], Progress | None],
        say: Callable[[str], None],
    ) -> list[SlideResult]:
        known = {e.path: e for e in self.ledger.entries()}
        names = name_slides(list_slides(paths), {path: e.slide_id for path, e in known.items()})
        if beside := next((p for p in names if absolute(p).startswith(absolute(self.slides) + os.sep)), None):
            raise UsageError(f"--out {self.out} would put results beside {beside}; give another one")
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
            for line in self._tabulate():
                say(line)
            if self.profile.slides:
                self.profile.write()
        return [results[number] for number in sorted(results)]

    def _one_by_one(
        self, slides: list["_Named"], known: dict[str, Entry], on_start: Callable[[str], Progress | None]
    ) -> Iterator[Step]:
        """Examine slides in order; the next one is opened and its tissue found while this one is computed."""
        with ThreadPoolExecutor(1, thread_name_prefix="histo-ahead") as ahead:
            try:
                ready = [ahead.submit(self._prepare, s, known.get(absolute(s.path))) for s in slides[:1]]
                for slide, following in itertools.zip_longest(slides, slides[1:]):
                    started = time.monotonic()
                    kept, opened = _result(ready.pop())
                    if following is not None:
                        ready.append(ahead.submit(self._prepare, following, known.get(absolute(following.path))))
                    if kept is None:
                        folder = self.slides / f"{TEMPORARY}{slide.slide_id}"
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
                        self._enter(slide, folder, result, time.monotonic() - started)
                    else:
                        result = kept
                    seconds = time.monotonic() - started
                    if self.options.profile and opened is not None and result.verdict is not None:
                        self.profile.add(slide.slide_id, opened, self.model, self.engines, seconds)
                    yield Step(slide.number, len(slides), result, kept is not None, seconds)
            finally:
                ahead.shutdown(cancel_futures=True)

    def _side_by_side(
        self, slides: list["_Named"], known: dict[str, Entry], on_start: Callable[[str], Progress | None]
    ) -> Iterator[Step]:
        """Examine slides on several processes, in the order in which they are finished."""
        started: dict[int, float] = {}
        kept: list[Step] = []

        def tasks() -> Iterator[Task]:
            for slide in slides:
                started[slide.number] = time.monotonic()
                entry = known.get(absolute(slide.path))
                old = self._kept(slide.path, entry, _digest(slide.path)) if entry else None
                if old is not None:
                    kept.append(Step(slide.number, len(slides), old, True, time.monotonic() - started[slide.number]))
                    continue
                on_start(slide.slide_id)
                yield Task(slide.number, slide.path, slide.slide_id, self.slides / f"{TEMPORARY}{slide.slide_id}")

        with Workers(self.model, self.options) as workers:
            for task, result in workers.run(tasks()):
                seconds = time.monotonic() - started[task.number]
                slide = _Named(task.number, task.path, task.slide_id)
                self._enter(slide, task.folder, result, seconds)
                yield from kept
                kept.clear()
                yield Step(task.number, len(slides), result, False, seconds)
        yield from kept

    def _prepare(self, slide: "_Named", entry: Entry | None) -> Prepared:
        """Return the result of an earlier run if it still holds, else the slide, opened."""
        sha256 = _digest(slide.path) if entry else None
        kept = self._kept(slide.path, entry, sha256) if entry else None
        if kept is not None:
            return kept, None
        return None, open_for(slide.path, self.model, self.options.of(slide.path).mpp, sha256)

    def _key(self, path: Path, sha256: str | None, settings_digest: str) -> str:
        """Return what a result hangs on: content, model, settings; a slide that cannot be read has no key."""
        if sha256 is None:
            return ""
        try:
            content = f"{sha256}/{companions_of(path)}"
        except OSError:
            return ""
        return hashlib.sha256(f"{content}/{self.model.digest}/{settings_digest}".encode()).hexdigest()

    def _kept(self, path: Path, entry: Entry, sha256: str | None) -> SlideResult | None:
        """Return the result of an earlier run if content, model and settings are what they were."""
        if entry.status not in FINAL:
            return None
        for options in self.options.either():
            key = self._key(path, sha256, digest_of(settings_of(options.mpp, options.device, options.mode)))
            stored = self._stored(entry) if key and entry.key == key else None
            # What could not be read may be readable now: a disk or a network may have been the cause.
            if stored and not (stored.areas and stored.areas.unreadable_mm2 > 0) and self.options.would_be(stored):
                return stored
        return None

    def _stored(self, entry: Entry) -> SlideResult | None:
        """Return the result of a row, if the file is the very one that the row was written for."""
        path = self.slides / entry.slide_id / "result.json"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.result_sha256:
            return None
        try:
            return load_result(path)
        except UsageError:  # of an older schema; computed anew when it is named
            return None

    def _enter(self, slide: "_Named", temporary: Path, result: SlideResult, seconds: float) -> None:
        """Put a finished slide's folder in its place, then its row into the ledger."""
        digest = hashlib.sha256((temporary / "result.json").read_bytes()).hexdigest()
        self._swap_in(temporary, slide.slide_id)
        key = self._key(slide.path, result.sha256, result.provenance.settings_digest)
        self.ledger.record(
            Entry(
                slide.slide_id,
                absolute(slide.path),
                key,
                self.model.digest,
                result.status,
                digest,
                round(seconds, 2),
            )
        )

    def _swap_in(self, temporary: Path, slide_id: str) -> None:
        """Put the new folder where the old one was; a reader sees the old result, the new one, or none."""
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        final = self.slides / slide_id
        if final.exists() and not any((final / name).exists() for name in ("result.json", "report.html")):
            raise ArchiveError(f"{final} is no result of histo and is left alone; give another --out")
        if final.exists():
            old = self.slides / f"{TEMPORARY}old-{slide_id}"
            os.rename(final, old)
            os.rename(temporary, final)
            shutil.rmtree(old)
        else:
            os.rename(temporary, final)
        sync(self.slides)

    def _describe(self) -> None:
        info = {
            "model": self.model.card.name,
            "model_digest": self.model.digest,
            "settings": settings_of(self.options.mpp, self.options.device, self.options.mode),
            "mpp_if_missing": self.options.mpp_if_missing,
            "device": self.options.device,
        }
        write_text(self.out / "run.json", json.dumps(info, indent=1) + "\n")

    def _tabulate(self) -> list[str]:
        """Write the tables over all slides that this model examined, and return what they leave out, in sentences.

        Results of two models are never mixed.
        """
        entries = self.ledger.entries()
        rows = [e for e in entries if e.model == self.model.digest]
        results = [replace(r, lesions=()) for e in rows if (r := self._stored(e)) is not None]
        write_slides(results, self.out / "slides.csv", {e.slide_id: e.seconds for e in rows})
        write_index(results, self.out / "index.html", "histo results")
        told = []
        if others := len(entries) - len(rows):
            told.append(
                f"{others} results in {self.out} are another model's and in no table; give each model its own --out"
            )
        if lost := len(rows) - len(results):
            told.append(f"{lost} results in {self.out} are gone, changed or of an older histo, and in no table")
        return told


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


@contextmanager
def _owned(out: Path) -> Iterator[None]:
    """Hold the output folder: a lock that the system drops when the process ends, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  held to the end of the run
    except OSError as error:
        raise _stopped(out, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise ArchiveError(f"{out} is in use by {owner}; wait for it or give another --out") from error
        except OSError as error:
            raise _stopped(out, error) from error
        yield


def _stopped(out: Path, error: OSError) -> ArchiveError:
    if error.errno == errno.ENOSPC:
        return ArchiveError(f"the disk of {out} is full; free some space and run the same command again")
    return ArchiveError(f"{out} cannot be written ({error.strerror or error}); give another --out or mend the folder")
