"""Annotation files as other tools wrote them: all read, or refused with the reason. They are not in the repository."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from histo.data.annotation_lint import lint
from histo.data.annotations import NO_ALIASES, Vocabulary, read_annotations, read_objects
from histo.errors import UsageError
from histo.geometry import Pyramid
from histo.outlines import area_px2

HOME = next(
    (p / "shared/data/annotations" for p in Path(__file__).parents if (p / "shared/data/annotations").is_dir()), None
)
CLASSES = ("normal", "bone", "calcification")
SLIDE = Pyramid((150_000, 150_000), (1.0,), 0.25, 0.25, "recorded", (0, 0, 150_000, 150_000))
ANY = {"unclassified": "bone"}

# File -> what its words mean, objects per class, area in Mpx where the file or its tool says it.
READ: Mapping[str, tuple[Mapping[str, str], Mapping[str, int], float | None]] = {
    "dlup_qupath05.geojson": (ANY, {"bone": 3}, None),
    "histoqc_aperio_TCGA-EJ-5518.xml": (
        ANY | {"CaP": "bone"},
        {"bone": 4},
        29.0464496 + 641.0998441 + 3.8530312 + 8.3087237,
    ),
    "histoqc_holed.geojson": (ANY, {"bone": 1}, None),
    "histoqc_qupath_geojson_example.json": ({"tumor": "bone", "INVBORDER": "normal"}, {"bone": 3, "normal": 5}, None),
    "large_image_sample.geojson": (ANY, {"bone": 10}, None),
    "wsidicom_asap-polygon.xml": (ANY, {"bone": 1}, None),
    "wsidicom_qupath-brush.json": (ANY, {"bone": 1}, None),
    "wsidicom_qupath-ellipse.json": (ANY, {"bone": 1}, None),
    "wsidicom_qupath-polygon-cell-classified.json": (
        {"Cell": "bone", "Nucleus": "calcification"},
        {"bone": 2, "calcification": 2},
        None,
    ),
    "wsidicom_qupath-polygon.json": (ANY, {"bone": 1}, None),
    "wsidicom_qupath-rectangle.json": (ANY, {"bone": 1}, 0.176 * 0.21),
    "wsidicom_qupath-wand.json": (ANY, {"bone": 1}, None),
}
REFUSED = {
    "dlup_103S.json": "is Darwin (V7) JSON",
    "dsa_sample_annotation.json": "element 2 is a point",
    "wsidicom_asap-dot.xml": "is a Dot",
    "wsidicom_asap-pointset.xml": "is a PointSet",
    "wsidicom_pathologycore-area.json": "is Sectra PathologyCore JSON",
    "wsidicom_qupath-line.json": "is a LineString",
    "wsidicom_qupath-multipoint.json": "is a MultiPoint",
    "wsidicom_qupath-point.json": "is a Point",
    "wsidicom_qupath-polyline.json": "is a LineString",
}


def real(name: str) -> Path:
    if HOME is None:
        pytest.skip("NOT TESTED: the real annotation files (shared/data/annotations) are not on this machine")
    return HOME / name


@pytest.mark.parametrize("name", sorted(READ))
def test_a_real_file_is_read(name: str) -> None:
    aliases, count, megapixels = READ[name]
    found = read_annotations(real(name), CLASSES, SLIDE, aliases)
    assert {n: len(outlines) for n, outlines in found.items()} == count
    area = sum(area_px2(o) for outlines in found.values() for o in outlines) / 1e6
    assert area == pytest.approx(megapixels or area, rel=1e-4)
    assert area > 0


@pytest.mark.parametrize("name", sorted(READ))
def test_a_real_file_without_aliases_says_what_its_words_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"has no classification|has the unknown class .* \(the file's words are"):
        read_annotations(real(name), CLASSES, SLIDE)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_real_file_without_outlines_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_annotations(real(name), CLASSES, SLIDE, ANY)
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_real_file_is_in_this_test() -> None:
    assert {p.name for p in real(".").iterdir()} == {*READ, *REFUSED}


@pytest.mark.parametrize("name", sorted(READ))
def test_a_real_file_can_be_linted(name: str) -> None:
    vocabulary = Vocabulary(CLASSES, READ[name][0] or NO_ALIASES)
    findings, shapes = lint(read_objects(real(name), SLIDE), vocabulary, SLIDE)
    assert shapes
    assert not [f for f in findings if f.severity == "error"]
