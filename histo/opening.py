"""All that comes before the network: opening a slide, finding its tissue, laying its tiles, hashing it meanwhile."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from histo.data.overview import read_overview
from histo.data.scanned import area_mm2, on_map
from histo.data.slide import Slide, check_mpp, companions_of, open_slide
from histo.data.slide_file import sha256_of
from histo.data.stain_norm import AS_THEY_ARE, StainNorm, stain_norm_of
from histo.data.tissue import Tissue, find_tissue
from histo.errors import SlideError, SlideFailed, SlideRefused
from histo.geometry import Pyramid, TileGrid, lay_tiles, map_grid_for
from histo.models.bundle import Model
from histo.results import Areas, Overview
from histo.timing import Timings
from histo.wording import beside


@dataclass(eq=False)
class Opened:
    """A slide opened, its tissue found and its tiles laid; its hash is on the way. Made by `open_for`.

    `error` says why there is nothing to score; what was found out before it happened is kept.
    """

    path: Path
    hashing: "Future[str]"
    state: object
    timings: Timings
    slide: Slide | None = None
    overview: Overview | None = None
    tiles: TileGrid | None = None
    tissue_map: np.ndarray | None = None
    excluded_map: np.ndarray | None = None
    stain_norm: StainNorm = AS_THEY_ARE
    error: SlideError | None = None

    @cached_property
    def sha256(self) -> str | None:
        """The file's SHA-256, waited for; None when the file cannot be read to its end."""
        try:
            return self.hashing.result()
        except SlideError as error:
            self.error = self.error or error
            return None


def open_for(path: Path, model: Model, mpp: float | None = None, sha256: str | None = None) -> Opened:
    """Do all that comes before the network, from any thread; the file is hashed beside it unless `sha256` is known.

    Raises `UsageError` for an impossible `mpp` only: what is wrong with the slide is kept in `error`.
    """
    timings = Timings()
    check_mpp(mpp)
    opened = Opened(path, _hashing(path, sha256, timings), state_of(path), timings)
    try:
        with timings.stage("opening"):
            slide = opened.slide = open_slide(path, mpp)
        with timings.stage("overview"):
            opened.overview, lost = read_overview(slide)
        with timings.stage("tissue"):
            tissue = find_tissue(opened.overview, lost)
            opened.tiles, opened.tissue_map, opened.excluded_map = lay(slide.pyramid, model, opened.overview, tissue)
            check_tissue(area_mm2(tissue.mask, opened.overview, slide.pyramid), model, path)
        with timings.stage("stain"):
            opened.stain_norm = stain_norm_of(slide, opened.overview, tissue, model.card.tile)
    except SlideError as error:
        opened.error = error
    return opened


def lay(pyramid: Pyramid, model: Model, overview: Overview, tissue: Tissue) -> tuple[TileGrid, np.ndarray, np.ndarray]:
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
            f"{path}: {areas.unreadable_mm2:.3f} of {areas.tissue_mm2:.3f} mm² of tissue cannot be read, too much "
            "for a verdict; copy or scan the slide again",
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
