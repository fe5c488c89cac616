"""Cohorts without pixels: a manifest of files that are no slides, and results as `histo infer` leaves them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from histo.data.slide_file import sha256_of
from histo.evaluation.localisation import LEVELS, Located
from histo.export.heatmap import write_heatmap
from histo.geometry import MapGrid, Pyramid
from histo.outlines import area_px2, box_ring, feret_mm
from histo.results import (
    Areas,
    ClassBurden,
    ClassRule,
    Lesion,
    ModelInfo,
    Provenance,
    Reason,
    SlideMap,
    SlideResult,
    Verdict,
    to_json,
)

MODEL = ModelInfo(
    name="test-model",
    digest="ab" * 32,
    classes=(
        ClassRule("bone", (213, 62, 79), 0.02, "heterotopic_ossification"),
        ClassRule("calcification", (50, 92, 190), 0.005, "calcinosis_cutis"),
    ),
    normal_label="normal",
    intended_use="Tests.",
    calibration="Nothing.",
)
PROVENANCE = Provenance({"histo": "0.1.0"}, {"mpp": None}, "cd" * 32, "cpu", "torch")
SIDE_PX, MPP, CELL_PX = 2000, 0.5, 32
PYRAMID = Pyramid((SIDE_PX, SIDE_PX), (1.0,), MPP, MPP, "recorded", (0, 0, SIDE_PX, SIDE_PX))
NOTHING_THERE = Located(
    class_name="bone",
    has_map=True,
    complete=True,
    truth_mm2=0.0,
    called_mm2=0.0,
    area_found=None,
    dice=None,
    iou=None,
    hd95_um=None,
    pointing=None,
    lesions=(),
    false_lesions=0,
    candidates=(),
    histogram=np.zeros((2, LEVELS)),
)
Box = tuple[float, float, float]  # centre x and y, side, in level-0 px


@dataclass(frozen=True)
class Made:
    """One slide to make: what it is, what is there and what was called (boxes by class)."""

    label: str
    called: str | None
    status: str = "done"
    sure: float = 0.9
    patient: str | None = None
    truth: tuple[tuple[str, Box], ...] = ()
    found: tuple[tuple[str, Box], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


def outline(box: Box):
    """Return the outline of a square."""
    x, y, side = box
    return (box_ring((x, y), (side, side)),)


def result_of(name: str, path: Path, made: Made) -> SlideResult:
    """Return the result of a slide as `histo infer` would leave it."""
    reasons = {"review": "uncertain", "refused": "no_scale", "failed": "unreadable"}
    why = (Reason(reasons[made.status], "A reason."),) if made.status != "done" else ()
    bare = SlideResult(name, str(path), sha256_of(path), made.status, why, MODEL, PROVENANCE)
    if made.called is None:
        return bare
    lesions = tuple(
        Lesion(
            f"{name}-{k}", f"{c} {k}", c, outline(b), area_px2(outline(b)) * PYRAMID.pixel_mm2,
            feret_mm(outline(b), MPP, MPP), 0.8, 0.95, (b[0], b[1]),
        )
        for k, (c, b) in enumerate(made.found)
    )  # fmt: skip
    rest = (1 - made.sure) / 2
    probability = {label: made.sure if label == made.called else rest for label in MODEL.labels}
    burdens = tuple(
        ClassBurden(
            c.name, sum(x.area_mm2 for x in lesions if x.class_name == c.name),
            sum(x.class_name == c.name for x in lesions), 0.0, probability[c.verdict],
        )
        for c in MODEL.classes
    )  # fmt: skip
    return replace(
        bare,
        pyramid=PYRAMID,
        verdict=Verdict(made.called, probability, tuple(k for k, p in probability.items() if p > 0.1)),
        areas=Areas(1.0, 1.0, 0.0, 0.0),
        burdens=burdens,
        lesions=lesions,
        files={"heatmap": "heatmap.ome.tif"},
    )


def map_of(found: Sequence[tuple[str, Box]]) -> SlideMap:
    """Return a slide map that is 0.95 on the boxes and 0 elsewhere."""
    cells = SIDE_PX // CELL_PX
    grid = MapGrid((0.0, 0.0), (CELL_PX, CELL_PX), (cells, cells), (CELL_PX * MPP, CELL_PX * MPP))
    probability = np.zeros((3, cells, cells), np.float16)
    for name, (x, y, side) in found:
        k = MODEL.class_names.index(name)
        rows, columns = (slice(int((v - side / 2) // CELL_PX), int((v + side / 2) // CELL_PX) + 1) for v in (y, x))
        probability[k, rows, columns] = 0.95
    probability[0] = 1 - probability[1:].max(axis=0)
    return SlideMap(probability, np.ones((cells, cells), np.float32), np.zeros((cells, cells), np.float32),
                    np.ones((cells, cells), bool), grid)  # fmt: skip


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[[Sequence[Made]], tuple[Path, Path]]:
    """Return a function that writes results and manifest and returns their places."""

    def make(slides: Sequence[Made]) -> tuple[Path, Path]:
        out, folder = tmp_path / "out", tmp_path / "cohort"
        folder.mkdir()
        extra = list(dict.fromkeys(name for m in slides for name, _ in m.extra))
        rows = [",".join(["slide", "path", "patient", "label", "annotation", *extra])]
        for number, made in enumerate(slides):
            name = f"s{number}"
            path = folder / f"{name}.svs"
            path.write_bytes(name.encode() * (number + 1))
            features = [
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [list(map(list, outline(b)[0]))]},
                    "properties": {"classification": {"name": c}},
                }
                for c, b in made.truth
            ]
            if features:
                (folder / f"{name}.geojson").write_text(json.dumps(features))
            given = dict(made.extra)
            patient = f"p{number}" if made.patient is None else made.patient
            cells = [name, path.name, patient, made.label, f"{name}.geojson" if features else ""]
            rows.append(",".join([*cells, *(given.get(c, "") for c in extra)]))
            if made.status == "missing":
                continue
            place = out / "slides" / name
            place.mkdir(parents=True)
            result = result_of(name, path, made)
            (place / "result.json").write_text(to_json(result))
            if result.files:
                write_heatmap(map_of(made.found), MODEL, place / "heatmap.ome.tif")
        (folder / "slides.csv").write_text("\n".join(rows) + "\n")
        return out, folder / "slides.csv"

    return make


@pytest.fixture
def made() -> type[Made]:
    return Made


@pytest.fixture
def model_info() -> ModelInfo:
    return MODEL
