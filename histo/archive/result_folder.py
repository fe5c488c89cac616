"""A slide's folder: put in its place whole; what histo did not write there outlives the result that it lay beside."""

import hashlib
import itertools
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from histo.export.outputs import MAPPED, REPORT
from histo.files import sync
from histo.out_folder import RESULT, is_result

log = logging.getLogger("histo")

WRITTEN = (RESULT, *REPORT.values(), *MAPPED.values())
SEAL = ".written.json"  # in a slide's folder: the SHA-256 of histo's files as they were written, by name
_TEMPORARY = ".histo-tmp-"
# Nothing else is removed: what begins like it may be the user's. No id holds a tilde.
_LEFT_OVER = re.compile(r"\.histo-tmp-([\w.-]+)(~old\d+|~gone\d+)?")


def temporary_of(final: Path) -> Path:
    """Return where a slide's files are written until all are there."""
    return final.with_name(f"{_TEMPORARY}{final.name}")


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a slide's result, and of the names and sizes of histo's files beside it."""
    files = (folder / name for name in WRITTEN if name != RESULT)
    beside = sorted(f"{file.name} {file.stat().st_size}" for file in files if file.is_file())
    return hashlib.sha256((folder / RESULT).read_bytes() + "\n".join(beside).encode()).hexdigest()


def is_of_others(path: Path) -> bool:
    """Tell whether something among the results is a folder with things in it, and none of histo's."""
    if not path.is_dir():
        return False
    names = set(os.listdir(path))
    return bool(names) and not names & {*WRITTEN, SEAL}


def swap_in(temporary: Path, final: Path) -> Path | None:
    """Put a new folder where the old one was, and return where that is now, to `retire` it.

    A reader sees the old result, the new one, or none.
    """
    hashes = {name: _sha256(temporary / name) for name in WRITTEN if (temporary / name).is_file()}
    (temporary / SEAL).write_text(json.dumps(hashes), encoding="utf-8")
    for file in temporary.iterdir():
        sync(file)
    sync(temporary)
    old = None
    if final.exists():
        old = _beside(final, "~old")
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    return old


def retire(old: Path, final: Path, row: str | None = None) -> list[Path]:
    """Remove the files that histo wrote from an old folder, carry all others to the new one, and remove the old.

    The folder's seal tells which are as histo wrote them. Folders of before have none: there `row`, the fingerprint in
    the ledger, tells whether any has another size. Returns what was edited since and is kept under another name. What
    cannot be removed, as a file that is open on a network's disk, waits for the next run.
    """
    edited = []
    is_as_written = _as_written(old, row)
    try:
        for file in sorted(old.iterdir()):
            has_our_name = file.name in WRITTEN and file.is_file()
            if file.name == SEAL or (has_our_name and is_as_written(file)):
                continue
            place = _free(final, file.name, has_our_name)
            os.rename(file, place)
            if has_our_name:
                edited.append(place)
        gone = _beside(final, "~gone")
        os.rename(old, gone)
        shutil.rmtree(gone, ignore_errors=True)
    except OSError as error:
        log.warning("%s cannot be emptied just now (%s); the next run tries again", old, error)
    return edited


def clear(results: Path) -> list[Path]:
    """Undo or finish what a killed run left half done among the results; return what `retire` does."""
    edited = []
    for left_over in sorted(results.glob(f"{_TEMPORARY}*"), reverse=True):  # of several old ones the newest first
        if not (found := _LEFT_OVER.fullmatch(left_over.name)):
            continue
        final = results / found[1]
        if not (found[2] or "").startswith("~old"):
            shutil.rmtree(left_over, ignore_errors=True)
        elif not final.exists() and (left_over / RESULT).exists():
            os.rename(left_over, final)
        else:
            edited += retire(left_over, final)
    return edited


def _as_written(folder: Path, row: str | None) -> Callable[[Path], bool]:
    """Return what tells of a file of histo's in a slide's folder whether it is as it was written; see `retire`."""
    try:
        hashes = dict(json.loads((folder / SEAL).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Before there were fingerprints the row was the hash of the result alone.
        untouched = is_result(folder) and row in (None, fingerprint(folder), _sha256(folder / RESULT))
        return lambda file: untouched or file.name == RESULT
    return lambda file: hashes.get(file.name) == _sha256(file)


def _beside(final: Path, mark: str) -> Path:
    """Return a free place for the old folder of a slide; one that could not be removed may be there still."""
    places = (final.with_name(f"{_TEMPORARY}{final.name}{mark}{n}") for n in itertools.count())
    return next(place for place in places if not os.path.lexists(place))


def _free(folder: Path, name: str, is_taken: bool) -> Path:
    """Return a free place for a file in a folder, under its own name unless that `is_taken` for histo's own."""
    stem, dot, suffix = name.partition(".")
    place, number = folder / name, 1
    while is_taken or os.path.lexists(place):
        place = folder / f"{stem}.edited{f'-{number}' if number > 1 else ''}{dot}{suffix}"
        number, is_taken = number + 1, False
    return place


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
