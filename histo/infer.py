"""From a slide to a verdict: `predict_slide` and what it is made of. `python -m histo.infer` is `histo infer`."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import histo
from histo.data.overview import read_overview
from histo.data.slide import Slide, check_mpp, open_slide, sha256_of
from histo.data.tiles import TileDataset, stream_batches
from histo.data.tissue import Tissue, find_tissue
from histo.errors import SlideError, SlideFailed, SlideRefused
from histo.export.geojson import write_lesions
from histo.export.heatmap import write_heatmap
from histo.export.overlay import write_overlay
from histo.export.report import write_report
from histo.export.tables import write_tiles
from histo.files import path_text, write_text
from histo.geometry import Pyramid, TileGrid, lay_tiles, map_grid_for, plan_read, rebin, round_px
from histo.models.aggregation import (
    NOT_EXCLUDED,
    ClassFindings,
    account,
    burdens,
    decide,
    find_lesions,
    review_reasons,
)
from histo.models.bundle import SHIPPED, Model, load_bundle
from histo.models.engine import TorchEngine, pick_device
from histo.models.stitching import Stitcher
from histo.results import (
    EvidenceField,
    Overview,
    Provenance,
    Reason,
    SlideMap,
    SlidePrediction,
    SlideResult,
    Status,
    to_json,
)

Progress = Callable[[int, int], None]

MAX_EVIDENCE = 8
EVIDENCE_PX = 448
NEAR_MPP, FAR_MPP = 0.5, 2.5


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a slide is and what a model would read of it; `reason` says why it would be refused, or is None."""

    path: Path
    pyramid: Pyramid
    overview: Overview
    tissue: Tissue
    tissue_mm2: float
    excluded_mm2: float
    tiles: int
    reason: Reason | None


def load_model(path: str | os.PathLike[str] | None = None) -> Model:
    """Load a model bundle, or the shipped demonstration model when no path is given. Raises `ModelError`."""
    return load_bundle(SHIPPED if path is None else Path(path))


def settings_of(mpp: float | None, device: str) -> dict[str, str | float | int | None]:
    """Return the settings that change a result, beside the slide and the model; a GPU computes in half precision."""
    kind = "cuda" if pick_device(device).type == "cuda" else "cpu"
    return {"histo": histo.__version__, "mpp": mpp, "mode": "full", "device": kind}


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
        cell = overview.grid.cell_mm2
        tissue_mm2, excluded_mm2 = tissue.mask.sum() * cell, tissue.excluded.sum() * cell
        try:
            tiles, _, _ = _lay(slide.pyramid, model, overview, tissue)
            count, reason = len(tiles), None
            _check_tissue(tissue_mm2, model, slide.path)
        except SlideRefused as error:
            count, reason = 0, Reason(error.code, str(error))
        return Inspection(
            Path(path), slide.pyramid, overview, tissue, float(tissue_mm2), float(excluded_mm2), count, reason
        )


def blank_result(path: Path, model: Model, mpp: float | None, slide_id: str, device: str) -> SlideResult:
    """Return the result of a slide of which nothing is known yet: `failed`, without reasons."""
    settings = settings_of(mpp, device)
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
    batch_size: int = 4,
    readers: int = 2,
    slide_id: str | None = None,
    progress: Progress | None = None,
) -> SlidePrediction:
    """Examine one slide; a slide that cannot get a verdict gives a result that says so (`refused`, `failed`).

    `mpp` (µm per level-0 pixel) overrides the recorded scale. `progress(done, all)` counts tiles.
    Raises `UsageError` for an impossible `mpp` or `device` only.
    """
    check_mpp(mpp)
    path = Path(path)
    engine = TorchEngine(model, pick_device(device))
    empty = blank_result(path, model, mpp, slide_id or path_text(path.stem), str(engine.device))
    try:
        empty = replace(empty, sha256=sha256_of(path))
        with open_slide(path, mpp) as slide:
            empty = replace(empty, pyramid=slide.pyramid)
            return _examine(slide, model, engine, empty, batch_size, readers, progress)
    except SlideError as error:
        status: Status = "refused" if isinstance(error, SlideRefused) else "failed"
        return SlidePrediction(replace(empty, status=status, reasons=(Reason(error.code, str(error)),)))


def write_outputs(prediction: SlidePrediction, folder: str | os.PathLike[str]) -> SlideResult:
    """Write every file of one slide into `folder` and return the result with their names; result.json comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result = prediction.result
    files = {"report": "report.html"}
    if prediction.slide_map is not None and result.pyramid is not None:
        files |= {
            "heatmap": "heatmap.ome.tif",
            "overlay": "overlay.png",
            "lesions": "lesions.geojson",
            "tiles": "tiles.csv",
        }
        write_heatmap(prediction.slide_map, result.model, folder / files["heatmap"])
        write_overlay(prediction, folder / files["overlay"])
        write_lesions(result, folder / files["lesions"])
        write_tiles(prediction.slide_map, result.pyramid, result.model, folder / files["tiles"])
    result = replace(result, files=files)
    write_report(replace(prediction, result=result), folder / files["report"])
    write_text(folder / "result.json", to_json(result))
    return result


def _examine(
    slide: Slide,
    model: Model,
    engine: TorchEngine,
    empty: SlideResult,
    batch_size: int,
    readers: int,
    progress: Progress | None,
) -> SlidePrediction:
    overview, lost = read_overview(slide)
    tissue = find_tissue(overview, lost)
    _check_tissue(float(tissue.mask.sum()) * overview.grid.cell_mm2, model, slide.path)
    tiles, tissue_map, excluded_map = _lay(slide.pyramid, model, overview, tissue)
    stitcher = Stitcher(tiles, len(model.card.classes.names))
    done = 0
    for batch in stream_batches(TileDataset.of(slide, tiles), batch_size, readers):
        if len(batch.indices):
            stitcher.add(batch.indices, engine.score(batch.rgb))
        done += len(batch.indices) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(tiles))
    slide_map = SlideMap(stitcher.probability, tissue_map, excluded_map, stitcher.valid, tiles.map_grid)
    return _conclude(slide, model, empty, slide_map, overview)


def _conclude(
    slide: Slide, model: Model, empty: SlideResult, slide_map: SlideMap, overview: Overview
) -> SlidePrediction:
    rule, info = model.card.rule, model.info
    areas = account(slide_map)
    if areas.unreadable_mm2 > rule.max_unreadable_share * areas.tissue_mm2:
        raise SlideFailed(
            "unreadable",
            f"{slide.path}: {areas.unreadable_mm2:.3f} of {areas.tissue_mm2:.3f} mm² of tissue cannot be read, too "
            "much for a verdict; copy or scan the slide again",
        )
    findings = find_lesions(slide_map, slide.pyramid, info.classes, rule, empty.sha256 or empty.slide_id)
    verdict = decide(findings, info)
    reasons = review_reasons(findings, verdict, areas, rule)
    result = replace(
        empty,
        status="review" if reasons else "done",
        reasons=reasons,
        verdict=verdict,
        areas=areas,
        burdens=burdens(findings),
        lesions=tuple(lesion for f in findings for lesion in f.lesions),
    )
    return SlidePrediction(result, slide_map, overview, _evidence(slide, findings))


def _lay(pyramid: Pyramid, model: Model, overview: Overview, tissue: Tissue) -> tuple[TileGrid, np.ndarray, np.ndarray]:
    spec = model.card.tile.spec()
    grid, _ = map_grid_for(pyramid, spec)
    tissue_map = rebin(tissue.mask, overview.grid, grid)
    excluded_map = np.minimum(rebin(tissue.excluded, overview.grid, grid), tissue_map)
    return lay_tiles(pyramid, spec, tissue_map), tissue_map, excluded_map


def _check_tissue(tissue_mm2: float, model: Model, path: Path) -> None:
    least = model.card.rule.least_tissue_mm2
    if tissue_mm2 < least:
        found = f"{tissue_mm2:.3f} mm² of tissue" if tissue_mm2 else "no tissue"
        raise SlideRefused(
            "too_little_tissue",
            f"{path} shows {found} and {least:g} mm² is the least; check that it is the right slide and its scale",
        )


def _evidence(slide: Slide, findings: Sequence[ClassFindings]) -> tuple[EvidenceField, ...]:
    """Show the largest lesions of every class in turn, so that a rare class is not crowded out.

    A class without a lesion shows its strongest field instead, if that is not next to nothing: the reviewer
    sees what was not counted.
    """
    ranks = range(max(1, *(len(f.lesions) for f in findings)))
    wanted: list[tuple[str | None, str, float, tuple[float, float]]] = []
    for rank in ranks:
        for f in findings:
            if rank < len(f.lesions):
                lesion = f.lesions[rank]
                wanted.append((lesion.lesion_id, f.rule.name, lesion.probability_max, lesion.peak_level0_px))
            elif rank == 0 and f.peak_probability >= NOT_EXCLUDED:
                wanted.append((None, f.rule.name, f.peak_probability, f.peak_level0_px))
    fields = (_field(slide, *one) for one in wanted[:MAX_EVIDENCE])
    return tuple(field for field in fields if field is not None)


def _field(
    slide: Slide, lesion_id: str | None, class_name: str, probability: float, peak_level0_px: tuple[float, float]
) -> EvidenceField | None:
    """Read the field around a strong cell, near and far; None where the file is damaged."""
    coarsest = max(slide.pyramid.mpp_x, slide.pyramid.mpp_y)
    pictures, sides_um = [], []
    for mpp in (max(NEAR_MPP, coarsest), max(FAR_MPP, coarsest)):
        plan = plan_read(slide.pyramid, mpp, EVIDENCE_PX)
        fx, fy = plan.tile_px_level0
        x, y = peak_level0_px
        corner = round_px(x - EVIDENCE_PX * fx / 2), round_px(y - EVIDENCE_PX * fy / 2)
        try:
            pictures.append(slide.read_tile(corner, plan))
        except SlideFailed:
            return None
        sides_um.append(EVIDENCE_PX * fx * slide.pyramid.mpp_x)
    return EvidenceField(lesion_id, class_name, probability, pictures[0], pictures[1], sides_um[0], sides_um[1])


def _versions() -> dict[str, str]:
    return {"histo": histo.__version__, "torch": torch.__version__, "numpy": version("numpy"), **Slide.versions}


if __name__ == "__main__":
    from histo.cli import main

    main(["infer", *sys.argv[1:]])
