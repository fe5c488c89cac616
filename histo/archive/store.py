"""What an output folder holds of every slide: its folder, its row in the ledger, its line in the tables."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from histo.archive.examine import RunOptions
from histo.archive.ledger import Entry, Ledger
from histo.archive.listing import absolute
from histo.archive.result_folder import clear, fingerprint, retire, swap_in, temporary_of
from histo.data.slide import companions_of
from histo.errors import UsageError
from histo.export.index import write_index
from histo.export.tables import write_slides
from histo.files import left_by_others, path_text
from histo.models.bundle import Model
from histo.out_folder import INDEX, RESULT, RESULTS, TABLE
from histo.results import SlideResult, load_result

FINAL = ("done", "review", "refused")  # a failed slide is tried again: a disk or a network may have been the cause


class Store:
    """An output folder, held by this process alone, into which the results of one model go beside those of others.

    What a killed run left half done is undone at once. Raises `OSError`.
    """

    def __init__(self, out: Path, model: Model, ledger: Ledger) -> None:
        self._out, self._model, self._ledger = out, model, ledger
        self._failed_since = self._made_otherwise = 0
        self.slides = out / RESULTS
        self.slides.mkdir(exist_ok=True)
        self._edited = clear(self.slides)
        for left_over in left_by_others(out):
            left_over.unlink(missing_ok=True)

    def known(self) -> dict[str, Entry]:
        """Return the rows of the slides that were examined before, whatever model did it, by path."""
        return {e.path: e for e in self._ledger.entries()}

    def temporary(self, slide_id: str) -> Path:
        """Return where a slide's files are written until all are there; `enter` takes them from there."""
        return temporary_of(self.slides / slide_id)

    def held(self, entry: Entry, options: RunOptions) -> SlideResult | None:
        """Return the result of an earlier run if model and settings are what they were; the slide is not read."""
        if entry.status not in FINAL or entry.model != self._model.digest:
            return None
        stored = self._stored(entry)
        # What could not be read may be readable now: a disk or a network may have been the cause.
        if stored is None or (stored.areas and stored.areas.unreadable_mm2 > 0):
            return None
        return stored if options.would_be(stored) else None

    def is_of(self, result: SlideResult, entry: Entry, path: Path, sha256: str | None) -> bool:
        """Tell whether a slide that now has this hash is the very one that a result is of."""
        return entry.key == self._key(path, sha256, result.provenance.settings_digest) != ""

    def enter(self, path: Path, slide_id: str, result: SlideResult, seconds: float) -> None:
        """Put a finished slide's temporary folder in its place, then its row into the ledger.

        An attempt that failed does not cost the slide the result that it has, of whatever model and settings, unless
        its file is known to be another.
        """
        temporary, final = self.temporary(slide_id), self.slides / slide_id
        before = self._ledger.entry_of(absolute(path))
        if result.status == "failed" and before and self._holds_final(before, result.sha256):
            shutil.rmtree(temporary, ignore_errors=True)
            self._failed_since += 1
            return
        digest = fingerprint(temporary)
        old = swap_in(temporary, final)
        key = self._key(path, result.sha256, result.provenance.settings_digest)
        self._ledger.record(
            Entry(slide_id, absolute(path), key, self._model.digest, result.status, digest, round(seconds, 2))
        )
        if old is not None:
            self._edited += retire(old, final, before.result_sha256 if before else None)
        if before and before.status in FINAL and before.key != key:
            self._made_otherwise += 1

    def _holds_final(self, entry: Entry, sha256: str | None) -> bool:
        """Tell whether a slide has a final result that may be that of a file with this hash, None if it is unknown.

        A file beside that result may have been edited since: it is a result still.
        """
        try:
            return entry.status in FINAL and sha256 in (None, load_result(self.slides / entry.slide_id / RESULT).sha256)
        except UsageError:
            return False

    def tabulate(self, named: Container[str]) -> list[str]:
        """Write the tables over all slides that this model examined, and return what to know of them, in sentences.

        Results of two models are never mixed. A path that gave nothing and is no file stands in them as long as it is
        `named`, by its absolute path: a slip of the pen or an empty folder is no slide for ever.
        """
        entries = self._ledger.entries()
        own = [e for e in entries if e.model == self._model.digest]
        rows = [e for e in own if e.key or e.path in named or os.path.isfile(e.path)]
        results = [replace(r, lesions=()) for e in rows if (r := self._stored(e)) is not None]
        write_slides(results, self._out / TABLE, {e.slide_id: e.seconds for e in rows})
        write_index(results, self._out / INDEX, f"histo results: {path_text(self._out.resolve().name)}")
        told = []
        if failed := self._failed_since:
            told.append(f"slides that failed now and have a result of before: {failed}; it is kept")
        if otherwise := self._made_otherwise:
            told.append(f"results of before that were made in another way and are replaced: {otherwise}")
        if any(r.checks and r.checks.has_few_references for r in results):
            told.append("foreign tissue is told by so few patients that hardly any is; see the reports")
        if n := len(self._edited):
            told.append(
                f"files of histo's that may have been edited: {n}, kept beside the new ones ({self._edited[0]})"
            )
        contents = Counter(r.sha256 for r in results if r.sha256)
        if twice := contents.total() - len(contents):
            told.append(f"rows of slides with the content of another: {twice}; copied or moved slides count again")
        if nothing := len(own) - len(rows):
            told.append(f"paths of earlier calls that are no files: {nothing}; they gave nothing and are in no table")
        if others := len(entries) - len(own):
            told.append(
                f"{others} results in {self._out} are another model's and in no table; give each model its own --out"
            )
        if lost := len(rows) - len(results):
            told.append(f"{lost} results in {self._out} are gone, changed or of an older histo, and in no table")
        return told

    def _key(self, path: Path, sha256: str | None, settings_digest: str) -> str:
        """Return what a result hangs on: content, model, settings; a slide that cannot be read has no key."""
        if sha256 is None:
            return ""
        try:
            content = f"{sha256}/{companions_of(path)}"
        except OSError:
            return ""
        return hashlib.sha256(f"{content}/{self._model.digest}/{settings_digest}".encode()).hexdigest()

    def _stored(self, entry: Entry) -> SlideResult | None:
        """Return the result of a row, if its files are the very ones that the row was written for."""
        path = self.slides / entry.slide_id / RESULT
        if not path.is_file() or fingerprint(path.parent) != entry.result_sha256:
            return None
        try:
            return load_result(path)
        except UsageError:  # of an older schema; computed anew when it is named
            return None
