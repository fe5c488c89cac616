"""Synthetic predictions: a slide with bounds that do not start at 0, anisotropic pixels and known deposits."""

import uuid
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from histo.geometry import MapGrid, Pyramid, cover
from histo.outlines import area_px2, feret_mm, trace
from histo.results import (
    Areas,
    ClassBurden,
    ClassRule,
    EvidenceField,
    Lesion,
    ModelInfo,
    Overview,
    Provenance,
    Reason,
    SlideMap,
    SlidePrediction,
    SlideResult,
    Verdict,
)

Make = Callable[..., SlidePrediction]

MODEL = ModelInfo(
    name="histo-base",
    digest="sha256:" + "0123456789abcdef" * 4,
    classes=(
        ClassRule("bone", (20, 120, 140), 0.02, "heterotopic_ossification"),
        ClassRule("calcification", (150, 40, 160), 0.005, "calcinosis_cutis"),
    ),
    normal_label="normal",
    intended_use="Research on H&E skin biopsies; finds calcification and bone. Not for diagnosis.",
    calibration="Temperature-scaled on 120 held-out slides; of calls at 0.9, about 9 in 10 were right.",
)
PROVENANCE = Provenance(
    versions={"histo": "0.1.0", "torch": "2.11.0"},
    settings={"stride": 32, "device": "cpu", "mpp": None},
    settings_digest="ab" * 32,
    device="cpu",
)


def _ellipse(shape: tuple[int, int], at: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    y, x = np.indices(shape) + 0.5
    return np.clip(1.6 - 1.1 * np.hypot((x - at[0]) / radii[0], (y - at[1]) / radii[1]), 0, 0.98)


def _slide_map(grid: MapGrid) -> SlideMap:
    rows, columns = grid.shape
    y, x = np.indices(grid.shape) + 0.5
    tissue = (np.hypot((x / columns - 0.5) / 0.42, (y / rows - 0.5) / 0.4) < 1).astype(np.float32)
    bone = _ellipse(grid.shape, (0.35 * columns, 0.45 * rows), (0.09 * columns, 0.08 * rows))
    calcium = _ellipse(grid.shape, (0.66 * columns, 0.6 * rows), (0.05 * columns, 0.07 * rows))
    calcium = np.maximum(calcium, _ellipse(grid.shape, (0.55 * columns, 0.3 * rows), (0.03 * columns, 0.03 * rows)))
    valid = np.ones(grid.shape, bool)
    valid[int(0.72 * rows) : int(0.85 * rows), int(0.3 * columns) : int(0.45 * columns)] = False
    excluded = np.zeros(grid.shape, np.float32)
    excluded[:, : int(0.14 * columns)] = tissue[:, : int(0.14 * columns)]
    valid &= excluded < 1
    usable = valid & (tissue > 0)
    lesions = np.stack([bone, calcium]) * usable
    probability = np.concatenate([np.where(usable, 1 - lesions.sum(0), 0).clip(0)[None], lesions])
    return SlideMap(probability.astype(np.float16), tissue, excluded, valid, grid)


def _overview(slide_map: SlideMap, pyramid: Pyramid, cell: float, seed: int = 0) -> Overview:
    grid = cover(pyramid, (cell, cell))
    size = grid.shape[::-1]
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=grid.shape).astype(np.float32), (0, 0), 3)
    inside = cv2.GaussianBlur(cv2.resize(slide_map.tissue, size), (0, 0), 1.5)[..., None]
    stain = np.array([226, 150, 190]) + 160 * noise[..., None] * np.array([0.6, 1.0, 0.5])
    return Overview((246 + (stain - 246) * inside).clip(0, 255).astype(np.uint8), grid)


def _lesions(slide_map: SlideMap, pyramid: Pyramid) -> tuple[Lesion, ...]:
    found = []
    for index, rule in enumerate(MODEL.classes, start=1):
        for number, outline in enumerate(trace(slide_map.probability[index], slide_map.grid), start=1):
            corners = np.asarray(outline[0])
            centre = corners.mean(axis=0)
            found.append(
                Lesion(
                    lesion_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{rule.name}/{number}")),
                    name=f"{rule.name} {number}",
                    class_name=rule.name,
                    outline=outline,
                    area_mm2=area_px2(outline) * pyramid.pixel_mm2,
                    feret_mm=feret_mm(outline, pyramid.mpp_x, pyramid.mpp_y),
                    probability_mean=0.81,
                    probability_max=0.97,
                    peak_level0_px=(float(centre[0]), float(centre[1])),
                    contribution=0.75 if number == 1 else 0.25,
                    edge_mm=0.42,
                )
            )
    return tuple(found)


def _evidence(lesions: tuple[Lesion, ...]) -> tuple[EvidenceField, ...]:
    fields = []
    for i, lesion in enumerate(lesions):
        rng = np.random.default_rng(i)
        rgb = np.repeat(np.repeat(rng.integers(120, 230, (32, 32, 3), np.uint8), 10, 0), 10, 1)
        said = lesion.lesion_id, None, lesion.area_mm2, lesion.class_name, 0.9
        fields.append(EvidenceField(*said, rgb, rgb[::-1].copy(), 256.0, 1024.0))
    return tuple(fields)


def _areas(slide_map: SlideMap) -> Areas:
    cell, usable = slide_map.grid.cell_mm2, slide_map.tissue - slide_map.excluded
    parts = [float(a.sum()) * cell for a in (usable[slide_map.valid], usable[~slide_map.valid], slide_map.excluded)]
    return Areas(sum(parts), *parts)


def _make(
    status: str = "done",
    cells: tuple[int, int] = (120, 160),
    bounds: tuple[int, int] = (700, 1300),
    mpp: tuple[float, float] = (0.5, 0.4),
    overview_cell: float = 20.0,
    slide_id: str = "S24-0173_A1",
    without: tuple[str, ...] = (),
) -> SlidePrediction:
    """Make a prediction on a map of about `cells` (rows, columns) of 16 µm."""
    reason = {
        "done": (),
        "review": (Reason("uncertain", "The probability of the verdict is 0.64, below 0.8."),),
        "refused": (Reason("no_scale", "The slide records no scale; give it with --mpp and run it again."),),
        "failed": (Reason("unreadable", "The file ends too early; copy it again from the scanner."),),
    }[status]
    bare = SlideResult(slide_id, f"/archive/{slide_id}.svs", "5e" * 32, status, reason, MODEL, PROVENANCE)
    if status in ("refused", "failed"):
        return SlidePrediction(bare)
    cell = 16 / mpp[0], 16 / mpp[1]
    width, height = round(cells[1] * cell[0]), round(cells[0] * cell[1])
    size = width + bounds[0] + 500, height + bounds[1] + 400
    pyramid = Pyramid(size, (1.0, 4.0), mpp[0], mpp[1], "recorded", (*bounds, width, height))
    slide_map = _slide_map(cover(pyramid, cell))
    lesions = () if "lesions" in without else _lesions(slide_map, pyramid)
    burdens = tuple(
        ClassBurden(
            rule.name,
            sum(one.area_mm2 for one in lesions if one.class_name == rule.name),
            sum(one.class_name == rule.name for one in lesions),
            max((one.feret_mm for one in lesions if one.class_name == rule.name), default=0.0),
            0.94,
        )
        for rule in MODEL.classes
    )
    probability = {"normal": 0.01, "heterotopic_ossification": 0.93, "calcinosis_cutis": 0.06}
    verdict = Verdict(
        "heterotopic_ossification", probability, ("heterotopic_ossification", "calcinosis_cutis"), ("calcification",)
    )
    result = replace(bare, pyramid=pyramid, verdict=verdict, areas=_areas(slide_map), burdens=burdens, lesions=lesions)
    return SlidePrediction(result, slide_map, _overview(slide_map, pyramid, overview_cell), _evidence(lesions))


@pytest.fixture(scope="session")
def make() -> Make:
    """A factory of synthetic predictions."""
    return _make


@pytest.fixture(scope="session")
def prediction() -> SlidePrediction:
    """A finished slide with lesions of both classes, unreadable tissue and ink."""
    return _make()
