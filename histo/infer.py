"""From a slide to a verdict: `predict_slide` and what it is made of. `python -m histo.infer` is `histo infer`."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

import histo
from histo.data.overview import read_overview
from histo.data.scale_check import overruled_scale
from histo.data.scanned import area_mm2
from histo.data.slide import Slide, open_slide
from histo.data.slide_file import check_regular_file, not_given
from histo.data.stain_norm import Density, density_of, stain_norm_of
from histo.data.tissue import Tissue, find_tissue
from histo.errors import SlideError, SlideFailed, SlideRefused, UsageError
from histo.evidence import show_evidence
from histo.files import path_text
from histo.geometry import Pyramid
from histo.judging import Judge
from histo.models.bundle import SHIPPED, Model, load_bundle
from histo.models.engine import Engines, device_kind, screen_of
from histo.models.lesions import account, burdens, find_lesions
from histo.models.placement import locate
from histo.models.stitching import Stitcher
from histo.models.verdict import area_reasons, decide, review_reasons
from histo.opening import Laid, Opened, check_areas, check_tissue, lay, open_for, state_of
from histo.results import (
    Areas,
    Overview,
    Provenance,
    Reason,
    SlideMap,
    SlidePrediction,
    SlideResult,
    StainGains,
    Status,
)
from histo.scoring import Pace, Scored, score_tiles
from histo.screening import PROCEDURE as SCREENING
from histo.screening import Screening
from histo.timing import Progress

Settings = dict[str, str | float | int | None]
Mode = Literal["full", "screen"]
MODES: tuple[Mode, ...] = get_args(Mode)
PROCEDURE = 4  # how a slide becomes a result; raised with every change of that, so that no older result is kept


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a slide is and what a model would read of it.

    `reason` says why it would be refused or fail, or is None; `review` what already speaks for a review.
    """

    path: Path
    pyramid: Pyramid
    overview: Overview
    tissue: Tissue
    areas: Areas
    density: Density | None
    gains: StainGains | None
    tiles: int
    reason: Reason | None
    review: tuple[Reason, ...]


def load_model(path: str | os.PathLike[str] | None = None, lazy: bool = False) -> Model:
    """Load a model bundle, or the shipped demonstration model when no path is given.

    With `lazy` the network is built and checked at its first use. Raises `ModelError`.
    """
    return load_bundle(SHIPPED if path is None else Path(path).absolute(), lazy)


def check_mode(mode: str, model: Model) -> None:
    """Raise `UsageError` for an unknown mode, and for `screen` with a model that has no screen."""
    if mode not in MODES:
        raise UsageError(f"--mode {mode!r} is not a mode; use {' or '.join(MODES)}")
    if mode == "screen":
        screen_of(model)


def settings_of(mpp: float | None, device: str, mode: str = "full") -> Settings:
    """Return the settings that change a result, beside the slide and the model; a GPU computes in half precision."""
    settings: Settings = {"histo": histo.__version__, "procedure": PROCEDURE}
    settings |= {"mpp": mpp, "mode": mode, "device": device_kind(device)}
    return settings | ({"screening": SCREENING} if mode == "screen" else {})


def digest_of(settings: Mapping[str, str | float | int | None]) -> str:
    """Return the SHA-256 of settings; equal settings always give the same."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def inspect_slide(path: str | os.PathLike[str], model: Model, mpp: float | None = None) -> Inspection:
    """Look at a slide without scoring it: scale, levels, tissue, tiles.

    Raises `SlideError` when it cannot be opened, read or has no scale, `UsageError` for an impossible `mpp`.
    """
    with open_slide(path, mpp) as slide:
        overview, lost = read_overview(slide)
        tissue = find_tissue(overview, lost)
        masks = (tissue.mask, tissue.excluded, lost)
        whole, excluded, unreadable = (area_mm2(mask, overview, slide.pyramid) for mask in masks)
        areas = Areas(whole, whole - excluded - unreadable, unreadable, excluded)
        try:
            tiles, _, _ = lay(slide.pyramid, model, overview, tissue)
            count, reason = len(tiles), None
            check_tissue(whole, model, slide.path)
            check_areas(areas, model, slide.path)
        except SlideError as error:
            count, reason = 0, Reason(error.code, str(error))
        return Inspection(
            Path(path),
            slide.pyramid,
            overview,
            tissue,
            areas,
            density_of(slide, overview, tissue),
            stain_norm_of(slide, overview, tissue, model.card.tile).used,
            count,
            reason,
            area_reasons(areas, model.card.rule),
        )


def blank_result(
    path: Path, model: Model, mpp: float | None, slide_id: str, device: str, mode: str = "full"
) -> SlideResult:
    """Return the result of a slide of which nothing is known yet: `failed`, without reasons."""
    settings = settings_of(mpp, device, mode)
    return SlideResult(
        slide_id=slide_id,
        path=path_text(path),
        sha256=None,
        status="failed",
        reasons=(),
        model=model.info,
        provenance=Provenance(_versions(), settings, digest_of(settings), device),
    )


def predict_slide(
    path: str | os.PathLike[str],
    model: Model,
    *,
    mpp: float | None = None,
    device: str = "auto",
    engine: str = "auto",
    batch_size: int | None = None,
    readers: int = 2,
    slide_id: str | None = None,
    progress: Progress | None = None,
    engines: Engines | None = None,
    opened: Opened | None = None,
    mode: str = "full",
) -> SlidePrediction:
    """Examine one slide; a slide that cannot get a verdict gives a result that says so (`refused`, `failed`).

    `mpp` (µm per level-0 pixel) overrides the recorded scale. `progress(done, all)` counts tiles. `batch_size` is
    the engine's own unless given. A run over many slides gives its `engines`, instead of `engine` and `device`, and
    the slide `opened` ahead of time, instead of `mpp`. In `mode` screen the network is shown only what the model's
    screen does not pass over; the rest of the tissue is `screened`.
    Raises `UsageError` for an impossible `mpp`, `device`, `engine` or `mode` only; for what is given
    twice, and for `engines` of another model or a slide `opened` at another path.
    """
    path, mpp = Path(path), None if mpp is None else float(mpp)
    if engines and ((engine, device) != ("auto", "auto") or engines.model is not model):
        raise UsageError("give either `engines` of this very model, or `engine` and `device`")
    if opened and (mpp is not None or opened.path != path):
        raise UsageError("`opened` has its path and scale already; give the same path, and leave `mpp` out")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"a batch of {batch_size} tiles holds none; give 1 or more")
    check_mode(mode, model)
    engines = engines or Engines(model, engine, device)
    with opened or open_for(path, model, mpp) as opened:
        name = path_text(path.stem) if slide_id in (None, "") else str(slide_id)  # 0 is a name, too
        empty = blank_result(path, model, opened.mpp, name, engines.kind, mode)
        if opened.slide is not None:
            empty = replace(empty, pyramid=opened.slide.pyramid)
        try:
            return _examine(opened, engines, empty, Pace(readers, batch_size, progress), mode)
        except (SlideError, OSError) as error:
            found = not_given(path, error) if isinstance(error, OSError) else error
            empty = replace(empty, sha256=opened.sha256)
            # What is said of a file must not stand under the hash of another.
            why = (empty.sha256 and _changed(opened)) or found
            status: Status = "refused" if isinstance(why, SlideRefused) else "failed"
            return SlidePrediction(replace(empty, status=status, reasons=(Reason(why.code, str(why)),)))


def _examine(opened: Opened, engines: Engines, empty: SlideResult, pace: Pace, mode: str) -> SlidePrediction:
    laid, model, timings = opened.laid, engines.model, opened.timings
    judge = Judge.of(laid)
    if mode == "screen":
        screening = Screening.of(laid, engines, pace, timings)
        scored = score_tiles(laid, screening.windows, engines, pace, timings, rounds=screening.rounds)
        with timings.stage("looking for the judge"):
            judge.read_missing(laid, scored.engine)
        passed_over, opened.shown = screening.passed_over, screening.windows.some(screening.shown)
    else:
        scored = score_tiles(laid, laid.tiles, engines, pace, timings, take=judge.take)
        passed_over, opened.shown = None, laid.tiles
    with timings.stage("waiting for the hash"):
        sha256 = opened.hashing.result()
    if changed := _changed(opened):
        raise changed
    with timings.stage("judging"):
        slide_map = _map_of(scored.stitcher, laid, passed_over)
        areas = account(slide_map)
        checks, against = judge.conclude(model, areas.tissue_mm2)
    with timings.stage("concluding"):
        told = replace(
            empty,
            sha256=sha256,
            provenance=_made_by(empty.provenance, scored),
            checks=checks,
            stain_gains=laid.stain_norm.used,
            reasons=against,
        )
        return _conclude(laid, model, told, slide_map, areas)


def _map_of(stitcher: Stitcher, laid: Laid, passed_over: NDArray[np.bool_] | None) -> SlideMap:
    # What the network says of bare glass means nothing: no training ever told it what glass is. What lies wholly under
    # ink is left out, and is not scored either.
    valid = stitcher.valid & (laid.tissue > laid.excluded)
    stitcher.probability[:, ~valid] = 0
    return SlideMap(stitcher.probability, laid.tissue, laid.excluded, valid, laid.tiles.map_grid, passed_over)


def _changed(opened: Opened) -> SlideFailed | None:
    """Return the failure of a slide whose files were written to, or can't be reached, since it was opened."""
    if (state := state_of(opened.path)) == opened.state:
        return None
    if state is None:
        try:
            check_regular_file(opened.path)
        except SlideFailed as why:
            return why
        return SlideFailed("unreadable", f"a file of {opened.path} cannot be reached any more; check the disk")
    return SlideFailed("changed", f"{opened.path} was changed while it was read; run again when it is at rest")


def _conclude(laid: Laid, model: Model, told: SlideResult, slide_map: SlideMap, areas: Areas) -> SlidePrediction:
    """Draw the verdict; what already speaks against it stands in the reasons of what is `told` of the slide."""
    slide, rule, info = laid.slide, model.card.rule, model.info
    check_areas(areas, model, slide.path)
    assert told.sha256 is not None
    slides, conformal = model.card.calibration.of_slides
    curves = slides.classes if slides else None
    # Another model, or other settings, find other lesions: what was said of one must not be read as said of another.
    identity = f"{told.sha256}/{model.digest}/{told.provenance.settings_digest}"
    findings = find_lesions(slide_map, slide.pyramid, info.classes, rule, identity, curves)
    findings = locate(findings, slide_map)
    against = (*told.reasons, *overruled_scale(slide.pyramid))
    # What speaks against the slide itself says that it may not be like those of the calibration.
    verdict = decide(findings, info, conformal, familiar=not against)
    reasons = (*against, *review_reasons(findings, verdict, areas, rule))
    if areas.screened_mm2:  # what speaks for a review does so all the same, and nothing is certified
        verdict = replace(verdict, level=None)
    result = replace(
        told,
        status="review" if reasons else "done",
        reasons=reasons,
        verdict=verdict,
        areas=areas,
        burdens=burdens(findings),
        lesions=tuple(lesion for f in findings for lesion in f.lesions),
    )
    return SlidePrediction(result, slide_map, laid.overview, show_evidence(slide, findings))


def _versions() -> dict[str, str]:
    return {"histo": histo.__version__, "torch": version("torch"), "numpy": version("numpy"), **Slide.versions}


def _made_by(provenance: Provenance, scored: Scored) -> Provenance:
    fast = f"JPEG blocks by simplejpeg {version('simplejpeg')}, checked against OpenSlide"
    reader = fast if scored.fast else "OpenSlide"
    return replace(provenance, device=scored.engine.device, engine=scored.engine.why, reader=reader)


if __name__ == "__main__":
    from histo.cli import main

    main(["infer", *sys.argv[1:]])
