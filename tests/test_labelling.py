"""The manifest and annotations commands, as a user types them."""

import csv
import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from histo.cli import app
from histo.data.manifest import read_manifest
from histo.errors import UsageError

CONFIG = """
name: t
intended_use: Tests.
classes:
  lesions:
    - {name: bone, colour: [1, 2, 3], min_area_mm2: 0.02, verdict: heterotopic_ossification}
    - {name: calcification, colour: [1, 2, 4], min_area_mm2: 0.005, verdict: calcinosis_cutis}
data:
  manifest: slides.csv
  aliases: {Kalk: calcification}
"""


@pytest.fixture
def folder(tmp_path: Path, painted: Path, write_tiff: Callable[..., Path]) -> Path:
    """A painted slide with its outlines beside it, one without a scale, one that is none, and a configuration."""
    (tmp_path / "slides").mkdir()
    shutil.copy(painted, tmp_path / "slides" / "one.svs")
    picture: NDArray[np.uint8] = np.full((600, 700, 3), (225, 170, 195), np.uint8)
    write_tiff(tmp_path / "slides" / "two.svs", [picture], description="Aperio made for a test")
    (tmp_path / "slides" / "three.svs").write_text("no slide")
    (tmp_path / "slides" / "one.json").write_text('{"components": []}')  # a record that is no annotation
    outline("Kalk", tmp_path / "slides" / "one.svs.geojson")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def outline(word: str, path: Path, x: int = 400) -> None:
    ring = [[x, 500], [x + 400, 500], [x + 400, 900], [x, 900], [x, 500]]
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path.write_text(json.dumps([shape | {"properties": {"classification": {"name": word}}}]))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_make_lists_what_is_known_and_says_what_must_be_filled_in(folder: Path) -> None:
    out = folder / "slides.csv"
    done = call("manifest", "make", folder / "slides", "--out", out, "--config", folder / "c.yaml")
    assert done.exit_code == 3  # one slide cannot be read
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["slide"], r["path"], r["annotation"], r["patient"], r["label"]) for r in rows] == [
        ("one", "slides/one.svs", "slides/one.svs.geojson", "", ""),
        ("two", "slides/two.svs", "", "", ""),
    ]
    assert "no credible scale is recorded in two" in done.stdout
    assert "three.svs is not a slide format" in done.stdout
    assert "one of normal, heterotopic_ossification, calcinosis_cutis" in done.stdout
    before = out.read_bytes()
    again = call("manifest", "make", folder / "slides", "--out", out, "--config", folder / "c.yaml")
    assert isinstance(again.exception, UsageError)
    assert "is not overwritten" in str(again.exception)
    assert out.read_bytes() == before


def test_what_was_made_and_filled_in_passes_the_check(folder: Path) -> None:
    out = folder / "slides.csv"
    call("manifest", "make", folder / "slides", "--out", out, "--config", folder / "c.yaml")
    filled = (
        out.read_text()
        .replace("one.svs,,,", "one.svs,p1,calcinosis_cutis,")
        .replace("two.svs,,,,,", "two.svs,p2,normal,,0.5,")
    )
    out.write_text(filled)
    done = call("manifest", "check", out, "--config", folder / "c.yaml")
    assert done.exit_code == 0, done.stdout
    assert "1 slide of 1 patient, 1 with outlines" in done.stdout
    assert "no errors" in done.stdout


def test_outlines_that_cannot_be_read_are_told(folder: Path) -> None:
    """Regression: cut off, compressed or in capitals, they were passed over, and the slide had a diagnosis alone."""
    (folder / "slides" / "one.svs.geojson").rename(folder / "slides" / "one.GeoJSON")
    (folder / "slides" / "two.geojson").write_text('{"features": [')
    (folder / "slides" / "two.geojson.gz").write_bytes(gzip.compress(b"{}"))
    (folder / "slides" / "two.svs.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    done = call("manifest", "make", folder / "slides", "--out", folder / "s.csv", "--config", folder / "c.yaml")
    said = " ".join(done.stdout.split())
    assert "one.GeoJSON" in (folder / "s.csv").read_text()
    assert "two.geojson is not JSON" in said
    assert "two.svs.geojson holds no object" in said
    assert "two.geojson.gz is compressed; unpack it, and give the file in it" in said


def test_errors_end_with_2_and_are_all_told(folder: Path) -> None:
    out = folder / "slides.csv"
    call("manifest", "make", folder / "slides", "--out", out, "--config", folder / "c.yaml")
    done = call("manifest", "check", out, "--config", folder / "c.yaml")
    assert done.exit_code == 2
    for part in ("line 2: no patient", "line 3: no label", "line 3: ", "fill the mpp column", "5 error(s) to mend"):
        assert part in done.stdout


def test_annotations_check_tells_areas_and_slips(folder: Path) -> None:
    slide, file = folder / "slides" / "one.svs", folder / "slides" / "one.svs.geojson"
    good = call("annotations", "check", file, "--slide", slide, "--config", folder / "c.yaml")
    assert good.exit_code == 0
    assert "1 object(s), 0.0400 mm²" in good.stdout
    unknown = call("annotations", "check", file, "--slide", slide, "--config", folder / "c.yaml", "--map", "Kalk=bone")
    assert "bone" in unknown.stdout
    outline("Stein", file)
    bad = call("annotations", "check", file, "--slide", slide, "--config", folder / "c.yaml")
    assert bad.exit_code == 2
    assert "has the unknown class 'Stein'" in bad.stdout
    mapped = call("annotations", "check", file, "--slide", slide, "--config", folder / "c.yaml", "--map", "stein=bone")
    assert mapped.exit_code == 0


def test_the_shipped_model_s_classes_count_without_a_configuration(folder: Path) -> None:
    slide, file = folder / "slides" / "one.svs", folder / "slides" / "one.svs.geojson"
    outline("bone", file)
    assert call("annotations", "check", file, "--slide", slide).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "x"], "must look like WORD=class"),
        (["--map", "=bone"], "must look like WORD=class"),
        (["--map", "x=spam"], "means 'spam'; use one of normal, bone, calcification, ignore"),
        (["--map", "Bone=calcification"], "means calcification and also bone"),
    ],
)
def test_a_map_that_makes_no_sense_is_one_sentence(arguments: list[str], message: str, folder: Path) -> None:
    slide, file = folder / "slides" / "one.svs", folder / "slides" / "one.svs.geojson"
    done = call("annotations", "check", file, "--slide", slide, "--config", folder / "c.yaml", *arguments)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("where", "message"),
    [("none", "is no folder"), ("empty", "holds no slide that can be read"), ("c.yaml", "is no folder")],
)
def test_a_folder_without_slides_is_one_sentence(where: str, message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    done = call("manifest", "make", folder / where, "--out", folder / "s.csv", "--config", folder / "c.yaml")
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
    assert not (folder / "s.csv").exists()


def test_a_split_manifest_is_a_manifest_with_sides(tmp_path: Path) -> None:
    lines = ["slide,path,patient,label,sex,site,mpp"]
    for n in range(30):
        (tmp_path / f"{n}.svs").write_text(f"slide {n}")
        label = ("normal", "calcinosis_cutis", "heterotopic_ossification")[n % 3]
        lines.append(f"s{n},{n}.svs,p{n},{label},f,A,0.2273139")
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "sub").mkdir()
    arguments = ["manifest", "split", tmp_path / "slides.csv", "--config", tmp_path / "c.yaml", "--seed", 3]
    done = call(*arguments, "--out", tmp_path / "sub" / "split.csv")
    assert done.exit_code == 0, done.exception
    assert "6 slides of 6 patients: 2 normal, 2 heterotopic_ossification, 2 calcinosis_cutis" in done.stdout
    records = read_manifest(tmp_path / "sub" / "split.csv", ("normal", "calcinosis_cutis", "heterotopic_ossification"))
    assert Counter(r.split for r in records) == {"train": 18, "validation": 6, "test": 6}
    assert {(r.extra["sex"], r.mpp) for r in records} == {("f", 0.2273139)}
    again = call(*arguments, "--out", tmp_path / "sub" / "split.csv")
    assert "is not overwritten" in str(again.exception)
    call(*arguments, "--out", tmp_path / "other.csv")
    other = read_manifest(tmp_path / "other.csv", ("normal", "calcinosis_cutis", "heterotopic_ossification"))
    assert [r.split for r in other] == [r.split for r in records]
