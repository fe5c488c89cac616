"""All that comes before the network: opening a slide, finding its tissue, laying its tiles, hashing it meanwhile."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from histo.data.overview import read_overview
from histo.data.scanned import area_mm2, on_map
from histo.data.slide import Slide, check_mpp, companions_of, open_slide
from histo.data.slide_file import not_given, sha256_of
from histo.data.stain_norm import StainNorm, stain_norm_of
from histo.data.tissue import Tissue, find_tissue
from histo.errors import SlideError, SlideFailed, SlideRefused
from histo.geometry import Pyramid, TileGrid, lay_tiles, map_grid_for
from histo.models.bundle import Model
from histo.results import Areas, Overview
from histo.timing import Timings
from histo.wording import area_words, beside


@dataclass(frozen=True, eq=False)
class Laid:
    """A slide laid out for a network: its tiles, and how their stain is normalised.

    `tissue` and `excluded` (H, W) are what share of every map cell is tissue, and tissue under ink.
    """

    slide: Slide
    overview: Overview
    tiles: TileGrid
    tissue: NDArray[np.float32]
    excluded: NDArray[np.float32]
    stain_norm: StainNorm


@dataclass(eq=False)
class Opened:
    """A slide opened and, unless something is wrong with it, laid out; its hash is on the way. Made by `open_for`.

    `shown` are the tiles that the network saw of it, once it did. Leaving it as a context closes the slide.
    """

    path: Path
    mpp: float | None  # as given, over what the file records
    hashing: "Future[str]"
    state: object
    timings: Timings
    slide: Slide | None = None
    shown: TileGrid | None = None
    found: Laid | SlideError | None = None

    @property
    def laid(self) -> Laid:
        """The slide laid out. Raises the `SlideError` that says why there is nothing to score."""
        if isinstance(self.found, Laid):
            return self.found
        assert self.found is not None
        raise self.found

    @property
    def sha256(self) -> str | None:
        """The file's SHA-256, waited for; None when the file cannot be read to its end."""
        try:
            return self.hashing.result()
        except SlideError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.slide is not None:
            self.slide.close()


def open_for(path: Path, model: Model, mpp: float | None = None, sha256: str | None = None) -> Opened:
    """Do all that comes before the network, from any thread; the file is hashed beside it unless `sha256` is known.

    Raises `UsageError` for an impossible `mpp` only: what is wrong with the slide is raised by `Opened.laid`.
    """
    timings = Timings()
    check_mpp(mpp)
    opened = Opened(path, mpp, _hashing(path, sha256, timings), state_of(path), timings)
    try:
        with timings.stage("opening"):
            opened.slide = open_slide(path, mpp)
        opened.found = _lay_out(opened.slide, model, timings)
    except SlideError as error:
        opened.found = error
    except OSError as error:  # raised, it would be taken for one of the output folder's, and stop a run
        opened.found = not_given(path, error)
    return opened


def _lay_out(slide: Slide, model: Model, timings: Timings) -> Laid:
    with timings.stage("overview"):
        overview, lost = read_overview(slide)
    with timings.stage("tissue"):
        tissue = find_tissue(overview, lost)
        tiles, tissue_map, excluded_map = lay(slide.pyramid, model, overview, tissue)
        check_tissue(area_mm2(tissue.mask, overview, slide.pyramid), model, slide.path)
    with timings.stage("stain"):
        stain_norm = stain_norm_of(slide, overview, tissue, model.card.tile)
    return Laid(slide, overview, tiles, tissue_map, excluded_map, stain_norm)


def lay(
    pyramid: Pyramid, model: Model, overview: Overview, tissue: Tissue
) -> tuple[TileGrid, NDArray[np.float32], NDArray[np.float32]]:
    """Return the tiles to read, and what share of every map cell (H, W) is tissue and is excluded."""
    spec = model.card.tile.spec()
    grid, _ = map_grid_for(pyramid, spec)
    tissue_map, excluded_map = (on_map(mask, overview, pyramid, grid) for mask in (tissue.mask, tissue.excluded))
    return lay_tiles(pyramid, spec, tissue_map), tissue_map, np.minimum(excluded_map, tissue_map)


def check_tissue(tissue_mm2: float, model: Model, path: Path, what: str = "tissue") -> None:
    """Raise `SlideRefused` for less tissue, or less of `what` is left of it, than the model's rule needs."""
    least = model.card.rule.least_tissue_mm2
    if tissue_mm2 < least:
        found = f"{beside(tissue_mm2, least, 3)} mm² of {what}" if tissue_mm2 else f"no {what}"
        raise SlideRefused(
            "too_little_tissue",
            f"{path} shows {found} and {least:g} mm² is the least; is it the right slide, at the right scale?",
        )


def check_areas(areas: Areas, model: Model, path: Path) -> None:
    """Raise `SlideFailed` where more of the tissue cannot be read than the model's rule bears.

    Raises `SlideRefused` where too little is left to judge by beside ink.
    """
    if areas.unreadable_mm2 > model.card.rule.max_unreadable_share * areas.tissue_mm2:
        raise SlideFailed(
            "unreadable",
            f"{path}: {area_words(areas.unreadable_mm2)} of {area_words(areas.tissue_mm2)} mm² of tissue cannot be "
            "read, too much for a verdict; copy or scan the slide again",
        )
    check_tissue(areas.scored_mm2 + areas.screened_mm2, model, path, "tissue beside what looks like ink")


def _hashing(path: Path, sha256: str | None, timings: Timings) -> "Future[str]":
    future: Future[str] = Future()
    if sha256 is not None:
        future.set_result(sha256)
        return future

    def work() -> None:
        try:
            with timings.stage("hashing"):
                future.set_result(sha256_of(path))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name="histo-hash", daemon=True).start()
    return future


def state_of(path: Path) -> object:
    """Return what changes when the files of a slide are replaced or written to."""
    try:
        status = path.stat()
        return status.st_size, status.st_mtime_ns, status.st_ino, companions_of(path)
    except (OSError, ValueError):
        return None
