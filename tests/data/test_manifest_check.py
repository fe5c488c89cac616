"""The deep check: every slide and annotation is opened, every problem told at once with its line, and nothing more."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.config import ClassesConfig
from histo.data.findings import Finding
from histo.data.manifest_check import check_manifest
from histo.errors import UsageError

Rgb = NDArray[np.uint8]
HEADER = "slide,path,patient,label,annotation,mpp,split,site,sex"
SIZE = (1000, 800)
DESCRIPTION = "Aperio made for a test |AppMag = 2|MPP = 4"


class Cohort:
    """A folder of slides of four patients, each block of its own shape, with outlines for two."""

    def __init__(self, folder: Path, write_tiff: Callable[..., Path], paint: Callable[..., Rgb]) -> None:
        self.folder, self._write = folder, write_tiff
        self.pictures = [paint(seed, SIZE) for seed in range(4)]
        for n, picture in enumerate(self.pictures):
            self.slide(f"s{n}.svs", picture)
        self.outline("s2.geojson", ("calcification", (450, 350, 520, 420)))
        self.outline("s3.geojson", ("bone", (450, 350, 520, 420)))
        self.rows = [
            "s0,s0.svs,p0,normal,,,,A,f",
            "s1,s1.svs,p1,normal,,,,B,m",
            "s2,s2.svs,p2,calcinosis_cutis,s2.geojson,,,A,f",
            "s3,s3.svs,p3,heterotopic_ossification,s3.geojson,,,B,m",
        ]

    def slide(self, name: str, picture: Rgb, description: str = DESCRIPTION, **options: Any) -> None:
        self._write(self.folder / name, [picture], description=description, **options)

    def outline(self, name: str, *boxes: tuple[str, tuple[int, int, int, int]]) -> None:
        features = []
        for word, (x, y, right, bottom) in boxes:
            ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": word}}})
        (self.folder / name).write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    def check(self, classes: ClassesConfig, rows: Sequence[str] | None = None, **options: Any) -> list[Finding]:
        path = self.folder / "slides.csv"
        path.write_text("\n".join([HEADER, *(self.rows if rows is None else rows)]))
        return check_manifest(path, classes, **options).findings


@pytest.fixture
def cohort(tmp_path: Path, write_tiff: Callable[..., Path], paint_block: Callable[..., Rgb]) -> Cohort:
    return Cohort(tmp_path, write_tiff, paint_block)


def errors(findings: Sequence[Finding]) -> list[str]:
    return [str(f) for f in findings if f.severity == "error"]


def test_a_sound_cohort_has_no_errors_only_words_on_its_size(cohort: Cohort, classes: ClassesConfig) -> None:
    found = cohort.check(classes)
    assert errors(found) == []
    assert {f.kind for f in found} <= {"class_size", "site"}
    assert "label normal: has 2 patients, too few to learn from" in str([str(f) for f in found])


def test_progress_is_told_slide_by_slide(cohort: Cohort, classes: ClassesConfig) -> None:
    told: list[tuple[int, int]] = []
    cohort.check(classes, on_slide=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_every_problem_is_told_at_once_in_order_of_lines(cohort: Cohort, classes: ClassesConfig) -> None:
    again = cv2.resize(cohort.pictures[0][20:, 30:], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    cohort.slide("again.svs", np.asarray(again, np.uint8), DESCRIPTION.replace("4", "5"))
    cohort.slide("bare.svs", cohort.pictures[1], "Aperio made for a test")
    cohort.slide("glass.svs", np.full((600, 600, 3), 244, np.uint8))
    (cohort.folder / "broken.svs").write_bytes(b"no slide")
    cohort.outline("shifted.geojson", ("bone", (5, 5, 40, 40)))
    rows = [
        "s0,s0.svs,p0,normal,s3.geojson,,,A,f",  # outlines bone
        "s2,s2.svs,p2,heterotopic_ossification,s2.geojson,,,A,f",  # outlines calcification
        "s3,s3.svs,,calcinosis_cutis,shifted.geojson,,,B,m",
        "n,again.svs,p9,normal,,,,A,f",
        "b,bare.svs,p8,normal,,,,A,f",
        "g,glass.svs,p7,normal,,,,A,f",
        "x,broken.svs,p6,normal,,,,A,f",
        "gone,gone.svs,p5,normal,,,,A,f",
    ]
    found = cohort.check(classes, rows)
    for line, part in {
        2: "is labelled normal, and",
        3: "outlines calcification, which means calcinosis_cutis",
        4: "no patient",
        5: "n looks like s0 of line 2",
        6: "fill the mpp column",
        7: "shows no tissue",
        8: "not a slide format",
        9: "gone.svs does not exist",
    }.items():
        assert [e for e in errors(found) if e.startswith(f"line {line}") and part in e], (line, errors(found))
    assert any("shifted, or another slide's" in e for e in errors(found) if e.startswith("line 4, shifted.geojson"))
    lines = [int(e.split()[1].strip(":,")) for e in errors(found) if e.startswith("line")]
    assert lines == sorted(lines)


def test_a_near_copy_within_a_patient_is_a_warning(cohort: Cohort, classes: ClassesConfig) -> None:
    cohort.slide("again.svs", np.ascontiguousarray(cohort.pictures[0][8:]))
    found = cohort.check(classes, [*cohort.rows, "s4,again.svs,p0,normal,,,,A,f"])
    assert errors(found) == []
    (copy,) = [f for f in found if f.kind == "near_copy"]
    assert "the same scan of one patient" in copy.message


@pytest.mark.parametrize("column", ["twin_of", "varied"])
def test_variants_of_one_patient_that_the_manifest_names_are_no_near_copies(
    column: str, cohort: Cohort, classes: ClassesConfig
) -> None:
    """Regression: `histo phantom` twins, the same slide without its lesion, were told as near copies."""
    cohort.slide("again.svs", np.ascontiguousarray(cohort.pictures[0][8:]))
    said = {"twin_of": ("", "s0"), "varied": ("seed=1", "seed=2")}[column]

    def kinds(patient: str, said: tuple[str, str]) -> set[tuple[str, str]]:
        rows = [f"s0,s0.svs,p0,normal,{said[0]}", f"s4,again.svs,{patient},normal,{said[1]}"]
        path = cohort.folder / "slides.csv"
        path.write_text("\n".join([f"slide,path,patient,label,{column}", *rows]))
        return {(f.kind, f.severity) for f in check_manifest(path, classes).findings if f.kind == "near_copy"}

    assert kinds("p0", said) == set()
    assert kinds("p0", ("", "another" if column == "twin_of" else "seed=2")) == {("near_copy", "warning")}
    assert kinds("p9", said) == {("near_copy", "error")}


def test_an_exact_copy_is_told_once(cohort: Cohort, classes: ClassesConfig) -> None:
    (cohort.folder / "copy.svs").write_bytes((cohort.folder / "s0.svs").read_bytes())
    found = cohort.check(classes, [*cohort.rows, "s4,copy.svs,p4,normal,,,,A,f"])
    assert errors(found) == ["line 6: the same content as in line 2"]


def test_a_lesion_with_a_diagnosis_alone_is_a_note(cohort: Cohort, classes: ClassesConfig) -> None:
    rows = [row.replace("s2.geojson", "") for row in cohort.rows]
    found = cohort.check(classes, rows)
    assert errors(found) == []
    assert "1 of 2 slides with a lesion have no outlines" in str([str(f) for f in found])


def test_a_scale_that_contradicts_the_file_s_is_a_warning(cohort: Cohort, classes: ClassesConfig) -> None:
    rows = [cohort.rows[0].replace("normal,,,", "normal,,2.0,"), *cohort.rows[1:]]
    found, *whole = cohort.check(classes, rows)
    assert (found.kind, found.severity, found.place) == ("scale", "warning", "line 2")
    assert whole
    assert not any(f.place.startswith("line") for f in whole), "what is about the whole comes last"
    assert "mpp is 2, and" in found.message
    assert "records 4;" in found.message


def test_a_slide_on_which_only_ignore_is_drawn_has_its_diagnosis_alone(cohort: Cohort, classes: ClassesConfig) -> None:
    """Regression: it "outlines no lesion, which means normal", and no artefact could be left out of a diagnosis."""
    cohort.outline("s2.geojson", ("Ignore*", (450, 350, 520, 420)))
    assert errors(cohort.check(classes)) == []


def test_a_scale_that_agrees_with_the_file_s_is_not_told(cohort: Cohort, classes: ClassesConfig) -> None:
    rows = [cohort.rows[0].replace("normal,,,", "normal,,4.1,"), *cohort.rows[1:]]
    assert not [f for f in cohort.check(classes, rows) if f.kind == "scale"]


def test_a_slide_without_a_scale_has_that_of_the_manifest(cohort: Cohort, classes: ClassesConfig) -> None:
    cohort.slide("s0.svs", cohort.pictures[0], "Aperio made for a test")
    rows = [cohort.rows[0].replace("normal,,,", "normal,,4,"), *cohort.rows[1:]]
    found = cohort.check(classes, rows)
    assert errors(found) == []
    assert not [f for f in found if f.kind == "scale"]


def test_a_slide_that_cannot_be_read_in_places_is_a_warning_with_its_share(
    cohort: Cohort, classes: ClassesConfig
) -> None:
    cohort.slide("s0.svs", cohort.pictures[0], faults={5: b"\xff\xd8garbage"})
    (found,) = [f for f in cohort.check(classes) if f.kind == "damaged"]
    assert (found.severity, found.place) == ("warning", "line 2")
    (share,) = re.findall(r"cannot be read in places \(([\d.]+)% of its overview\)", found.message)
    assert 8.1 < float(share) < 25, "one block of 256 px of 1000 by 800, and what is read in one piece with it"


def test_what_only_the_check_of_outlines_notes_is_not_told(cohort: Cohort, classes: ClassesConfig) -> None:
    path = cohort.folder / "s2.geojson"
    drawn = json.loads(path.read_text())
    hole = [[470, 370], [490, 370], [490, 390], [470, 390], [470, 370]]
    drawn["features"][0]["geometry"]["coordinates"].append(hole)
    path.write_text(json.dumps(drawn))
    assert {f.kind for f in cohort.check(classes)} <= {"class_size", "site"}


def test_two_values_for_one_person_are_a_warning(cohort: Cohort, classes: ClassesConfig) -> None:
    rows = [cohort.rows[0], cohort.rows[1].replace("p1", "p0"), *cohort.rows[2:]]
    said = [str(f) for f in cohort.check(classes, rows) if f.kind == "two_values"]
    assert said == [
        "patient p0: has sex f and m; are these two patients?",
        "patient p0: has site A and B; are these two patients?",
    ]


def test_a_label_from_one_site_alone_is_a_warning(cohort: Cohort, classes: ClassesConfig) -> None:
    said = [str(f) for f in cohort.check(classes) if f.kind == "site"]
    assert "label calcinosis_cutis: comes from site A alone; a model may learn the site instead" in said
    assert not any("normal" in s for s in said)


def test_a_site_that_few_slides_of_a_label_name_is_not_said_to_be_that_of_all(
    cohort: Cohort, classes: ClassesConfig
) -> None:
    """Regression: a label came from site A alone where one of its slides named it and the others none."""
    cohort.slide("s4.svs", cohort.pictures[2][::-1])
    rows = [*cohort.rows, "s4,s4.svs,p4,calcinosis_cutis,,,,,f"]
    (said,) = [str(f) for f in cohort.check(classes, rows) if f.kind == "site" and "calcinosis" in str(f)]
    assert "comes from site A as far as it is known, of 1 of 2 slides; a model may" in said


def test_aliases_are_used(cohort: Cohort, classes: ClassesConfig) -> None:
    cohort.outline("s3.geojson", ("Osteoma", (450, 350, 520, 420)))
    (only,) = errors(cohort.check(classes))  # whether it contradicts the label is not known then
    assert "unknown class 'Osteoma'" in only
    assert errors(cohort.check(classes, aliases={"osteoma": "bone"})) == []


def test_a_file_that_is_no_manifest_is_an_error_of_its_own(tmp_path: Path, classes: ClassesConfig) -> None:
    (tmp_path / "slides.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="lacks the column"):
        check_manifest(tmp_path / "slides.csv", classes)
