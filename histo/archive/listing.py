"""Which slides a command names, and the id under which each is kept."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from histo.data.slide import SUFFIXES, series_of
from histo.data.slide_file import is_dicom_slide
from histo.files import path_text
from histo.out_folder import RESULT, is_result

TRUTH_SUFFIX = ".mask.tif"  # the truth that lies beside a phantom
_MAX_ID_CHARACTERS, _MAX_ID_BYTES = 80, 200  # names of files end at 255 bytes, and temporary ones are longer


def absolute(path: Path) -> str:
    """Return the absolute path as text, by which the ledger knows a slide."""
    return path_text(os.path.abspath(path))


def list_slides(paths: Iterable[Path]) -> list[Path]:
    """Return the named files, and the slides inside named folders, each once, in order; a DICOM series is one slide.

    Paths are absolute. What begins with a dot, or lies beside a `result.json` of histo, whose heatmaps are TIFFs too,
    is not looked for in folders. A path that does not exist, or a folder
    without slides, is kept: it becomes a failed slide, not silence.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = sorted(_slides_in(path)) if os.path.isdir(path) else []
        for slide in inside or [path]:
            found.setdefault(absolute(slide), slide.absolute())
    return _one_a_series(found.values())


def _one_a_series(slides: Iterable[Path]) -> list[Path]:
    """Keep the first file of every DICOM series in a folder: its files are the levels of one slide."""
    first: dict[tuple[str, str], Path] = {}
    return [
        p for p in slides if (series := series_of(p)) is None or first.setdefault((absolute(p.parent), series), p) == p
    ]


def _slides_in(folder: Path) -> Iterator[Path]:
    closed: list[Path] = []
    links: list[Path] = []
    entered: set[str] = set()
    real: set[str] = set()
    waiting = [str(folder)]
    while waiting:  # linked folders after real ones, so that a slide keeps its real path where it has one inside
        for parent, folders, files in os.walk(
            waiting.pop(0), onerror=lambda error: closed.append(Path(error.filename))
        ):
            if os.path.realpath(parent) in entered:  # a link to where we have been
                folders.clear()
                continue
            entered.add(os.path.realpath(parent))
            if RESULT in files and is_result(Path(parent)):
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [link for name in folders if os.path.islink(link := os.path.join(parent, name))]
            for path in (path for name in files if _is_slide(path := Path(parent, name))):
                if path.is_symlink():
                    links.append(path)
                else:
                    real.add(os.path.realpath(path))
                    yield path
    yield from (link for link in links if os.path.realpath(link) not in real)  # no slide is examined as two
    yield from closed  # a folder that may not be entered becomes a failed slide, not silence


def _is_slide(path: Path) -> bool:
    """Tell whether a file is a slide: by its name, or as DICOM without the suffix, as many archives keep it.

    A Mac leaves a `._` file beside each one. A link to nothing may have been a slide, or a folder of them, unless its
    name says that it was something else: it becomes a failed one.
    """
    if path.name.startswith(".") or path.name.endswith(TRUTH_SUFFIX):
        return False
    leads_nowhere = os.path.islink(path) and not os.path.exists(path) and not path.suffix
    return leads_nowhere or path.suffix.lower() in SUFFIXES or is_dicom_slide(path)


def holds_slides(folder: Path) -> Path | None:
    """Return a slide that lies in a folder itself, or None; a heatmap of ours is none."""
    inside = sorted(folder.iterdir()) if os.path.isdir(folder) else []
    own = (path for path in inside if not path.name.endswith(".ome.tif") and _is_slide(path))
    return next((path for path in own if os.path.isfile(path)), None)


def name_slides(slides: Iterable[Path], known: dict[str, str]) -> dict[Path, str]:
    """Give every slide an id: its stem, with a short hash of its path where another slide has that stem.

    `known` maps absolute paths to the ids that an output folder already holds; those never change.
    """
    taken = {slide_id.casefold() for slide_id in known.values()}
    names: dict[Path, str] = {}
    for slide in slides:
        slide_id = known.get(absolute(slide))
        if slide_id is None:
            stem = re.sub(r"[^\w.-]+", "_", slide.stem).strip("._-")[:_MAX_ID_CHARACTERS]
            stem = stem.encode()[:_MAX_ID_BYTES].decode(errors="ignore") or "slide"
            slide_id, digest = stem, absolute(slide)  # the content's hash would cost a reading of every such slide
            while slide_id.casefold() in taken:
                digest = hashlib.sha256(digest.encode()).hexdigest()
                slide_id = f"{stem}-{digest[:8]}"
        taken.add(slide_id.casefold())
        names[slide] = slide_id
    return names
