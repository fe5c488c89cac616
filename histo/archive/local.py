"""Working through many slides on this machine: every slide attempted, done work kept, results whole or absent."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from histo.archive.ledger import Entry, Ledger
from histo.archive.listing import LEDGER, absolute, list_slides, name_slides
from histo.data.slide import companions_of, sha256_of
from histo.errors import ArchiveError, HistoError, SlideFailed, UsageError
from histo.export.index import write_index
from histo.export.tables import write_slides
from histo.files import sync, write_text
from histo.infer import Progress, blank_result, digest_of, predict_slide, settings_of, write_outputs
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.results import Reason, SlidePrediction, SlideResult, load_result

log = logging.getLogger("histo")

TEMPORARY = ".tmp-"
FINAL = ("done", "review", "refused")  # a failed slide is tried again: a disk or a network may have been the cause


@dataclass(frozen=True)
class Step:
    """What happened to one slide of a run; `kept` says that its result is from an earlier run."""

    number: int
    total: int
    result: SlideResult
    kept: bool
    seconds: float


@dataclass(frozen=True)
class RunOptions:
    """Options of a run over many slides, see `histo.infer.predict_slide`."""

    mpp: float | None = None
    device: str = "auto"
    batch_size: int | None = None
    readers: int = 2
    engine: str = "auto"


def run_slides(
    paths: Sequence[Path],
    out: Path,
    model: Model,
    options: RunOptions,
    on_step: Callable[[Step], None] = lambda step: None,
    on_start: Callable[[str], Progress | None] = lambda slide_id: None,
) -> list[SlideResult]:
    """Examine all slides into `out` and return their results; a slide done before, unchanged, is not computed again.

    Every slide gets its folder under `slides/`, its ledger row, and its line in `slides.csv` and `index.html`.
    Raises `ArchiveError` when the folder, the disk or the ledger stops the run, or another run owns the folder.
    """
    if any(os.path.isdir(p) and os.path.realpath(p) == os.path.realpath(out) for p in paths):
        raise UsageError(f"--out {out} is the folder of the slides themselves; give another one")
    with _owned(out):
        ledger = Ledger(out / LEDGER)
        try:
            return _Run(out, model, options, ledger).work(paths, on_step, on_start)
        except OSError as error:
            raise _stopped(out, error) from error
        finally:
            ledger.close()


class _Run:
    def __init__(self, out: Path, model: Model, options: RunOptions, ledger: Ledger) -> None:
        self.out, self.model, self.options, self.ledger = out, model, options, ledger
        self.slides = out / "slides"
        self.slides.mkdir(exist_ok=True)
        self.engines = Engines(model, options.engine, options.device)
        for left_over in self.slides.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left_over)

    def work(
        self,
        paths: Sequence[Path],
        on_step: Callable[[Step], None],
        on_start: Callable[[str], Progress | None],
    ) -> list[SlideResult]:
        known = {e.path: e for e in self.ledger.entries()}
        names = name_slides(list_slides(paths), {path: e.slide_id for path, e in known.items()})
        self._describe()
        results = []
        try:
            for number, (path, slide_id) in enumerate(names.items(), start=1):
                key = self._key(path)
                kept = self._kept(known.get(absolute(path)), key)
                started = time.monotonic()
                result = kept or self._compute(path, slide_id, key, on_start(slide_id))
                results.append(result)
                on_step(Step(number, len(names), result, kept is not None, time.monotonic() - started))
        finally:
            # Also after Ctrl-C: the tables then say what is there.
            self._tabulate()
        return results

    def _key(self, path: Path) -> str:
        """Return what a result hangs on: content, model, settings; a slide that cannot be read has no key."""
        try:
            content = f"{sha256_of(path)}/{companions_of(path)}"
        except (SlideFailed, OSError):
            return ""
        return hashlib.sha256(f"{content}/{self.model.digest}/{self._settings_digest}".encode()).hexdigest()

    @property
    def _settings_digest(self) -> str:
        return digest_of(settings_of(self.options.mpp, self.options.device))

    def _kept(self, entry: Entry | None, key: str) -> SlideResult | None:
        if entry is None or not key or entry.key != key or entry.status not in FINAL:
            return None
        stored = self._stored(entry)
        # What could not be read may be readable now: a disk or a network may have been the cause.
        return None if stored and stored.areas and stored.areas.unreadable_mm2 > 0 else stored

    def _stored(self, entry: Entry) -> SlideResult | None:
        """Return the result of a row, if the file is the very one that the row was written for."""
        path = self.slides / entry.slide_id / "result.json"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.result_sha256:
            return None
        try:
            return load_result(path)
        except UsageError:  # of an older schema; computed anew when it is named
            return None

    def _compute(self, path: Path, slide_id: str, key: str, progress: Progress | None) -> SlideResult:
        started = time.monotonic()
        temporary = self.slides / f"{TEMPORARY}{slide_id}"
        try:
            result = write_outputs(self._predict(path, slide_id, progress), temporary)
        except (HistoError, OSError):
            raise
        except Exception as error:
            # One slide must never stop the others, whatever is wrong with it or with us; nothing of it is hidden.
            log.exception("%s failed", path)
            shutil.rmtree(temporary, ignore_errors=True)
            result = write_outputs(self._broken(path, slide_id, error), temporary)
        digest = hashlib.sha256((temporary / "result.json").read_bytes()).hexdigest()
        self._swap_in(temporary, slide_id)
        seconds = round(time.monotonic() - started, 2)
        self.ledger.record(Entry(slide_id, absolute(path), key, self.model.digest, result.status, digest, seconds))
        return result

    def _predict(self, path: Path, slide_id: str, progress: Progress | None) -> SlidePrediction:
        o = self.options
        return predict_slide(
            path,
            self.model,
            mpp=o.mpp,
            device=o.device,
            batch_size=o.batch_size,
            readers=o.readers,
            slide_id=slide_id,
            progress=progress,
            engines=self.engines,
        )

    def _broken(self, path: Path, slide_id: str, error: Exception) -> SlidePrediction:
        is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's own
        code = "out_of_memory" if is_memory else "internal_error"
        what = f"{path} could not be examined ({type(error).__name__}: {error}); please report this with the log"
        blank = blank_result(path, self.model, self.options.mpp, slide_id, self.options.device)
        return SlidePrediction(replace(blank, reasons=(Reason(code, what),)))

    def _swap_in(self, temporary: Path, slide_id: str) -> None:
        """Put the new folder where the old one was; a reader sees the old result, the new one, or none."""
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        final = self.slides / slide_id
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
            "settings": settings_of(self.options.mpp, self.options.device),
            "device": self.options.device,
        }
        write_text(self.out / "run.json", json.dumps(info, indent=1) + "\n")

    def _tabulate(self) -> None:
        """Write the tables over all slides that this model examined; results of two models are never mixed."""
        rows = [e for e in self.ledger.entries() if e.model == self.model.digest]
        results = [r for e in rows if (r := self._stored(e)) is not None]
        write_slides(results, self.out / "slides.csv", {e.slide_id: e.seconds for e in rows})
        write_index(results, self.out / "index.html", "histo results")


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
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise ArchiveError(f"{out} is in use by {owner}; wait for it or give another --out") from error
        except OSError as error:
            raise _stopped(out, error) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def _stopped(out: Path, error: OSError) -> ArchiveError:
    if error.errno == errno.ENOSPC:
        return ArchiveError(f"the disk of {out} is full; free some space and run the same command again")
    return ArchiveError(f"{out} cannot be written ({error.strerror or error}); give another --out or mend the folder")
