"""CSV tables: one row per block of a slide, one row per slide of a run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.files import whole
from histo.geometry import MapGrid, Pyramid
from histo.results import RESEARCH_USE, ModelInfo, SlideMap, SlideResult

BLOCK_CELLS = 8
_QUOTED = re.compile('[,"\r\n]')

Cell = str | int | float | None


def write_tiles(slide_map: SlideMap, pyramid: Pyramid, model: ModelInfo, path: Path) -> None:
    """Write the map in the layout of WSInfer, one row per block of 8 x 8 cells that holds scored tissue.

    `minx, miny, width, height` are level-0 px, whole numbers that leave no gap between blocks; `prob_<class>`
    are means over the scored tissue of the block. The columns after them name the model.
    """
    after: dict[str, Cell] = {"model": model.name, "model_digest": model.digest, "research_use": RESEARCH_USE}
    header = ["minx", "miny", "width", "height", *(f"prob_{n}" for n in model.class_names), *after]
    scored = np.where(slide_map.valid, np.clip(slide_map.tissue - slide_map.excluded, 0, None), 0.0)
    weight = _block_sums(scored)
    at = weight > 0
    means = [_block_sums(np.nan_to_num(p.astype(np.float64)) * scored)[at] / weight[at] for p in slide_map.probability]
    boxes = _boxes(slide_map.grid, pyramid)[at]
    numbers = zip(boxes.tolist(), np.stack(means, axis=1).round(5).tolist(), strict=True)
    _write(path, header, ([*box, *probability, *after.values()] for box, probability in numbers))


def _block_sums(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sums of a map (H, W) over its blocks, of which the last ones may be smaller."""
    starts = (np.arange(0, n, BLOCK_CELLS) for n in values.shape)
    sums = np.asarray(values, np.float64)
    for axis, first in enumerate(starts):
        sums = np.add.reduceat(sums, first, axis=axis)
    return sums


def _boxes(grid: MapGrid, pyramid: Pyramid) -> NDArray[np.int64]:
    """Return left, top, width and height (H, W, 4) in level-0 px of all blocks, cut at the slide."""
    rows, columns = (np.append(np.arange(0, n, BLOCK_CELLS), n) for n in grid.shape)
    corners_map_px = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.float64)
    corners = np.floor(grid.to_level0_px(corners_map_px) + 0.5).astype(np.int64)  # round_px, on an array
    corners = np.minimum(corners, pyramid.size_level0_px).reshape(len(rows), len(columns), 2)
    return np.concatenate([corners[:-1, :-1], corners[1:, 1:] - corners[:-1, :-1]], axis=-1)


def write_slides(results: Iterable[SlideResult], path: Path, seconds: Mapping[str, float]) -> None:
    """Write one row per slide, whatever its status; `seconds` is the time taken by slide id.

    Every label and class of any result has its column; what a slide does not have is left empty.
    """
    known = list(results)
    labels = list(dict.fromkeys(label for r in known for label in r.model.labels))
    classes = list(dict.fromkeys(c.name for r in known for c in r.model.classes))
    rows = [_slide_row(r, labels, classes, seconds.get(r.slide_id)) for r in known]
    header = list(_slide_columns(labels, classes))
    _write(path, header, ([row.get(name) for name in header] for row in rows))


def _slide_columns(labels: Sequence[str], classes: Sequence[str]) -> list[str]:
    return [
        *("slide_id", "path", "status", "reason_codes", "reasons", "verdict", "also", "not_excluded", "certified"),
        *(f"prob_{label}" for label in labels),
        *(f"area_mm2_{name}" for name in classes),
        *(f"count_{name}" for name in classes),
        *(f"prob_any_{name}" for name in classes),
        *("tissue_mm2", "scored_mm2", "unreadable_mm2", "excluded_mm2", "screened_mm2"),
        *("foreign_distance", "foreign_limit"),
        *("mpp_x", "mpp_y", "scale_source", "mode", "seconds", "sha256"),
        *("model", "model_digest", "research_use"),
    ]


def _slide_row(
    result: SlideResult, labels: Sequence[str], classes: Sequence[str], seconds: float | None
) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "slide_id": result.slide_id,
        "path": result.path,
        "status": result.status,
        "reason_codes": ";".join(r.code for r in result.reasons),
        "reasons": " | ".join(r.message for r in result.reasons),
        "seconds": seconds if seconds is None else round(seconds, 2),
        "mode": result.provenance.settings.get("mode"),
        "sha256": result.sha256,
        "model": result.model.name,
        "model_digest": result.model.digest,
        "research_use": result.research_use,
    }
    if result.verdict:
        row |= {"verdict": result.verdict.label, "also": ";".join(result.verdict.also)}
        row |= {"not_excluded": ";".join(result.verdict.not_excluded), "certified": result.verdict.level}
    if result.verdict and not result.is_unseen:
        row |= {f"prob_{name}": result.verdict.probability.get(name) for name in labels}
    burdens = {b.class_name: b for b in result.burdens}
    for name in (n for n in classes if n in burdens):
        row |= {f"area_mm2_{name}": burdens[name].area_mm2, f"count_{name}": burdens[name].count}
        row |= {} if result.is_unseen else {f"prob_any_{name}": burdens[name].presence}
    if result.areas:
        areas = result.areas
        row |= {"tissue_mm2": areas.tissue_mm2, "scored_mm2": areas.scored_mm2}
        row |= {"unreadable_mm2": areas.unreadable_mm2, "excluded_mm2": areas.excluded_mm2}
        row |= {"screened_mm2": areas.screened_mm2}
    if result.checks:
        checks = result.checks
        row |= {"foreign_distance": checks.foreign_distance, "foreign_limit": checks.foreign_limit}
    if result.pyramid:
        pyramid = result.pyramid
        row |= {"mpp_x": pyramid.mpp_x, "mpp_y": pyramid.mpp_y, "scale_source": pyramid.scale_source}
    return row


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    # File names that are not UTF-8 come as surrogate escapes and leave as the bytes that they were.
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.writelines(_line(row) for row in chain([header], rows))


def _line(cells: Sequence[Cell]) -> str:
    """Return a row as text. The csv module leaves a lone carriage return, as file names can have, unquoted.

    >>> _line(["a", 'b"c', 0.25, None, "d\\re"])
    'a,"b""c",0.25,,"d\\re"\\n'
    """
    texts = [_safe(cell) for cell in cells]
    return ",".join('"' + t.replace('"', '""') + '"' if _QUOTED.search(t) else t for t in texts) + "\n"


def _safe(cell: Cell) -> str:
    """Return a cell's text: numbers with six digits, nothing for what is not a number, and no formulas.

    >>> _safe("=1+1"), _safe(-0.5), _safe(float("nan")), _safe(None)
    ("'=1+1", '-0.5', '', '')
    """
    if isinstance(cell, float):
        return f"{cell:.6g}" if isfinite(cell) else ""
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    # A spreadsheet runs what starts so as a formula.
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
