"""The coarse outlines of real slides (tests/real_outlines) that bench/real_halves.py trains on; no slide is needed."""

import json
import sys
from pathlib import Path

import pytest

from histo.config import ClassesConfig
from histo.data.agreement import contradiction
from histo.data.annotation_lint import areas_mm2, lint
from histo.data.annotations import NO_ALIASES, Vocabulary, read_objects
from histo.data.records import SlideRecord
from histo.geometry import Pyramid

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # the benches are scripts that import one another

from real_halves import CUT, OUTLINES, clipped  # noqa: E402

SIDE_PX = {"bone-hyperostosis": 8192, "calcification-brain": 6144}
LESION_MM2 = {"bone-hyperostosis": ("bone", 3.0, 5.0), "calcification-brain": ("calcification", 0.15, 0.35)}


def test_every_outline_file_is_one_of_a_slide_that_is_cut() -> None:
    assert {p.stem for p in OUTLINES.glob("*.geojson")} == set(CUT) == set(SIDE_PX)


@pytest.mark.parametrize("name", sorted(CUT))
def test_the_outlines_pass_the_check_and_agree_with_the_label(name: str, classes: ClassesConfig) -> None:
    side = SIDE_PX[name]
    pyramid = Pyramid((side, side), (1.0,), 0.5, 0.5, "user", (0, 0, side, side))
    path = OUTLINES / f"{name}.geojson"
    findings, shapes = lint(read_objects(path, pyramid), Vocabulary(classes.names, NO_ALIASES), pyramid)
    assert [str(f) for f in findings if f.severity != "note"] == []
    drawn = {s.name for s in shapes}
    assert contradiction(SlideRecord(name, Path(name), name, CUT[name][0], path), drawn, classes) is None
    lesion, least, most = LESION_MM2[name]
    assert least < areas_mm2(shapes, pyramid)[lesion] < most


@pytest.mark.parametrize("name", sorted(CUT))
def test_both_halves_keep_all_of_the_lesion(name: str, classes: ClassesConfig, tmp_path: Path) -> None:
    side, (_, column), lesion = SIDE_PX[name], CUT[name], LESION_MM2[name][0]
    found = []
    for left, right in ((0, side), (0, column), (column, side)):
        path = tmp_path / "half.geojson"
        path.write_text(json.dumps(clipped(name, left, right, side)))
        pyramid = Pyramid((right - left, side), (1.0,), 0.5, 0.5, "user", (0, 0, right - left, side))
        _, shapes = lint(read_objects(path, pyramid), Vocabulary(classes.names, NO_ALIASES), pyramid)
        found.append(areas_mm2(shapes, pyramid)[lesion])
    assert min(found) > 0.05
    assert found[1] + found[2] == pytest.approx(found[0], rel=1e-3)
