"""Malformed manifests and annotations of 61 kinds, each in many forms: always one clear sentence, never a traceback."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from histo.data.annotations import read_annotations
from histo.data.manifest import read_manifest
from histo.errors import HistoError
from histo.geometry import Pyramid

LABELS = ("normal", "calcinosis_cutis")
CLASSES = ("normal", "bone")
SLIDE = Pyramid((5000, 4000), (1.0,), 0.5, 0.5, "recorded", (0, 0, 5000, 4000))
FILES = ("a.svs", "b.svs", "c.svs")
Draw = Callable[[st.SearchStrategy[Any]], Any]

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
coordinates = st.floats(0, 3000).map(lambda v: round(v, 1))
far = st.floats(2e7, 1e300) | st.just(10**400)


def sentence(read: Callable[[], object], name: str) -> None:
    """Read and expect one sentence that names the file."""
    with pytest.raises(HistoError) as caught:
        read()
    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    assert len(said) > len(name) + 15


# Manifests: a good table, spoilt in one way.


def rows(draw: Draw) -> list[list[str]]:
    return [[f"s{n}", file, f"p{n}", draw(st.sampled_from(LABELS))] for n, file in enumerate(FILES)]


def spoil_cell(column: int, make: Callable[[Draw], str]) -> Callable[[Draw], bytes]:
    def spoilt(draw: Draw) -> bytes:
        table = rows(draw)
        table[draw(st.integers(0, 2))][column] = make(draw)
        return text(table)

    return spoilt


def text(table: list[list[str]], header: str = "slide,path,patient,label") -> bytes:
    cells = [",".join('"' + c.replace('"', '""') + '"' for c in row) for row in table]
    return ("\n".join([header, *cells]) + "\n").encode()


def more(header: str, make: Callable[[Draw], str]) -> Callable[[Draw], bytes]:
    """Spoil an optional column."""

    def spoilt(draw: Draw) -> bytes:
        table = [[*row, ""] for row in rows(draw)]
        table[draw(st.integers(0, 2))][4] = make(draw)
        return text(table, f"slide,path,patient,label,{header}")

    return spoilt


def twice(column: int) -> Callable[[Draw], bytes]:
    def spoilt(draw: Draw) -> bytes:
        table = rows(draw)
        one, other = draw(st.permutations(range(3)))[:2]
        table[one][column] = table[other][column]
        return text(table)

    return spoilt


def without(draw: Draw) -> bytes:
    lacking = draw(st.sampled_from(["slide", "path", "patient", "label"]))
    return text(rows(draw)).replace(lacking.encode(), b"x" + lacking.encode(), 1)


def two_sides(draw: Draw) -> bytes:
    sides = draw(st.permutations(["train", "validation", "test", ""]))
    table = [[*row[:2], "p1", row[3], side] for row, side in zip(rows(draw), sides, strict=False)]
    return text(table, "slide,path,patient,label,split")


MANIFESTS: dict[str, Callable[[Draw], bytes]] = {
    "empty": lambda draw: draw(st.sampled_from([b"", b"\n", b"\xef\xbb\xbf", b"\n\n"])),
    "binary": lambda draw: b"\xff\xfe" + draw(st.binary(min_size=1)),
    "utf-16": lambda draw: text(rows(draw)).decode().encode("utf-16"),
    "header-only": lambda draw: b"slide,path,patient,label" + b"\n" * draw(st.integers(0, 5)),
    "a-column-missing": without,
    "a-column-twice": lambda draw: text(
        rows(draw), f"slide,path,patient,label,{draw(st.sampled_from(['label', 'Slide']))}"
    ),
    "another-separator": lambda draw: text(rows(draw)).replace(b",", draw(st.sampled_from([b";", b"\t", b"|"]))),
    "too-many-cells": lambda draw: text([[*row, *draw(st.lists(words, min_size=1))] for row in rows(draw)]),
    "endless-cell": lambda draw: text([["s" * draw(st.integers(140_000, 150_000)), *rows(draw)[0][1:]]]),
    "no-slide": spoil_cell(0, lambda draw: " " * draw(st.integers(0, 3))),
    "no-path": spoil_cell(1, lambda draw: " " * draw(st.integers(0, 3))),
    "no-patient": spoil_cell(2, lambda draw: " " * draw(st.integers(0, 3))),
    "no-label": spoil_cell(3, lambda draw: " " * draw(st.integers(0, 3))),
    "unknown-label": spoil_cell(3, lambda draw: "x" + draw(words)),
    "missing-file": spoil_cell(1, lambda draw: "x" + draw(words)),
    "impossible-path": spoil_cell(1, lambda draw: draw(st.sampled_from(["\0", "x" * 5000, "..", "/", "a.svs/b"]))),
    "slide-twice": twice(0),
    "path-twice": twice(1),
    "path-in-two-spellings": lambda draw: text(
        [*rows(draw), ["s9", "./" * draw(st.integers(1, 4)) + "a.svs", "p9", "normal"]]
    ),
    "patient-in-two-spellings": lambda draw: text(
        [["s0", "a.svs", "Pat", "normal"], ["s1", "b.svs", draw(st.sampled_from(["pat", "PAT", "paT"])), "normal"]]
    ),
    "copied-file": lambda draw: text([*rows(draw), ["s9", "copy.svs", draw(words), "normal"]]),
    "patient-on-two-sides": two_sides,
    "unknown-split": more("split", lambda draw: "x" + draw(words)),
    "mpp-no-number": more("mpp", lambda draw: "x" + draw(words)),
    "mpp-impossible": more(
        "mpp", lambda draw: str(draw(st.floats(-1e9, 0.04) | st.floats(5.1) | st.just(float("nan"))))
    ),
    "missing-annotation": more("annotation", lambda draw: "x" + draw(words)),
    "annotation-twice": lambda draw: text(
        [[*row, "a.geojson"] for row in rows(draw)], "slide,path,patient,label,annotation"
    ),
}


@pytest.mark.parametrize("kind", MANIFESTS)
@given(data=st.data())
@settings(max_examples=8)
def test_a_malformed_manifest_ends_in_one_sentence(kind: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slides.csv"
        for name in FILES:
            (path.parent / name).write_text(name)
        (path.parent / "copy.svs").write_text("a.svs")
        (path.parent / "a.geojson").write_text("[]")
        path.write_bytes(MANIFESTS[kind](data.draw))
        sentence(lambda: read_manifest(path, LABELS), "slides.csv")


# Annotations: a good file of each format, spoilt in one way.


def ring(draw: Draw) -> list[list[float]]:
    x, y = draw(coordinates), draw(coordinates)
    return [[x, y], [x + 90, y], [x + 90, y + 80], [x, y + 80], [x, y]]


def geojson(geometry: Any, word: Any = "bone") -> bytes:
    shape = {"type": "Feature", "geometry": geometry, "properties": {"classification": word}}
    return json.dumps({"type": "FeatureCollection", "features": [shape]}).encode()


def polygon(draw: Draw, **changes: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(draw)], **changes}


def one_bad_point(draw: Draw, bad: Any) -> bytes:
    points: list[Any] = ring(draw)
    points[draw(st.integers(0, 3))] = bad
    return geojson({"type": "Polygon", "coordinates": [points]})


def asap(points: str, kind: str = "Polygon", group: str = "bone") -> bytes:
    head = f'<Annotation Name="n" Type="{kind}" PartOfGroup="{group}">'
    body = f"<Annotations>{head}<Coordinates>{points}</Coordinates></Annotation></Annotations>"
    return f"<ASAP_Annotations>{body}</ASAP_Annotations>".encode()


def asap_points(draw: Draw) -> str:
    return "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(ring(draw)))


def aperio(vertices: str, kind: int = 0, negative: int = 0, name: str = "bone") -> bytes:
    region = f'<Region Id="1" Type="{kind}" NegativeROA="{negative}"><Vertices>{vertices}</Vertices></Region>'
    return f'<Annotations><Annotation Name="{name}"><Regions>{region}</Regions></Annotation></Annotations>'.encode()


def vertices(draw: Draw) -> str:
    return "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring(draw))


def dsa(element: Any) -> bytes:
    return json.dumps({"name": "d", "elements": [element]}).encode()


def mask(draw: Draw, shape: tuple[int, ...], kind: Any = np.uint8) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tif"
        tifffile.imwrite(path, np.full(shape, draw(st.integers(1, 9)), kind), photometric="minisblack")
        return path.read_bytes()


def cut(whole: bytes, draw: Draw) -> bytes:
    return whole[: draw(st.integers(1, len(whole) - 1))]


ENTITIES = b"<!DOCTYPE x [<!ENTITY e '%s'>]><ASAP_Annotations>&e;</ASAP_Annotations>"
ANNOTATIONS: dict[str, Callable[[Draw], bytes]] = {
    "empty": lambda draw: draw(st.sampled_from([b"", b" ", b"\n"])),
    "binary": lambda draw: b"\x00\x01" + draw(st.binary()),
    "truncated-json": lambda draw: cut(geojson(polygon(draw)), draw),
    "deep-json": lambda draw: b"[" * draw(st.integers(50_000, 100_000)),
    "no-annotation-json": lambda draw: json.dumps({"x": draw(words)}).encode(),
    "unknown-class": lambda draw: geojson(polygon(draw), {"name": "x" + draw(words)}),
    "no-class": lambda draw: geojson(polygon(draw), draw(st.sampled_from([None, {}, 3, [], {"name": None}, ""]))),
    "no-geometry": lambda draw: geojson(draw(st.sampled_from([None, {}, 3, [], "x", {"type": None}]))),
    "no-area-kind": lambda draw: geojson({"type": draw(st.sampled_from(["Point", "LineString", "MultiPoint", "x"]))}),
    "no-coordinates": lambda draw: geojson(
        polygon(draw, coordinates=draw(st.sampled_from([None, [], 3, "x", [[]], {}])))
    ),
    "point-no-number": lambda draw: one_bad_point(
        draw, draw(st.sampled_from([["a", "b"], [None, 1], [True, 1], [[1], 2]]))
    ),
    "point-too-short": lambda draw: one_bad_point(draw, draw(st.sampled_from([[], [1], None, 7]))),
    "point-not-finite": lambda draw: one_bad_point(draw, [float(draw(st.sampled_from(["nan", "inf", "-inf"]))), 1]),
    "point-too-far": lambda draw: one_bad_point(draw, [draw(far), 1]),
    "too-few-points": lambda draw: geojson(polygon(draw, coordinates=[ring(draw)[: draw(st.integers(0, 2))]])),
    "line-as-polygon": lambda draw: geojson(
        polygon(draw, coordinates=[[[n, n] for n in range(draw(st.integers(3, 9)))]])
    ),
    "outside": lambda draw: geojson(polygon(draw, coordinates=[[[x + 6000, y] for x, y in ring(draw)]])),
    "truncated-xml": lambda draw: b"<" + cut(asap(asap_points(draw))[1:-1], draw),
    "entities": lambda draw: ENTITIES % draw(words).encode(),
    "unknown-xml": lambda draw: f"<x{draw(words)}/>".encode(),
    "asap-no-number": lambda draw: asap(asap_points(draw).replace('X="', 'X="?', 1)),
    "asap-no-order": lambda draw: asap(asap_points(draw).replace('Order="1"', f'Order="x{draw(words)}"')),
    "asap-dot": lambda draw: asap(asap_points(draw), draw(st.sampled_from(["Dot", "PointSet", "Measurement"]))),
    "asap-unknown-group": lambda draw: asap(asap_points(draw), group="x" + draw(words)),
    "aperio-no-vertices": lambda draw: aperio("<Vertex/>" * draw(st.integers(0, 5))),
    "aperio-arrow": lambda draw: aperio(vertices(draw), draw(st.sampled_from([3, 4, 5]))),
    "aperio-lone-hole": lambda draw: aperio(vertices(draw), negative=1),
    "ndpa-of-another-scanner": lambda draw: f"<annotations><x>{draw(words)}</x></annotations>".encode(),
    "dsa-broken": lambda draw: dsa(
        {"type": draw(st.sampled_from(["circle", "rectangle", "ellipse"])), "label": {"value": "bone"}}
    ),
    "dsa-open": lambda draw: dsa({"type": "polyline", "points": ring(draw), "group": "bone"}),
    "mask-of-another-slide": lambda draw: mask(draw, (draw(st.integers(1, 30)), 500)),
    "mask-in-colour": lambda draw: mask(draw, (400, 500, 3)),
    "mask-truncated": lambda draw: mask(draw, (400, 500))[: draw(st.integers(4, 400))],
    "mask-unnamed": lambda draw: mask(draw, (400, 500)),
}


@pytest.mark.parametrize("kind", ANNOTATIONS)
@given(data=st.data())
@settings(max_examples=8)
def test_a_malformed_annotation_ends_in_one_sentence(kind: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.annotation"
        raw = ANNOTATIONS[kind](data.draw)
        assume(not (kind == "truncated-json" and raw == b"{}"))
        path.write_bytes(raw)
        sentence(lambda: read_annotations(path, CLASSES, SLIDE), "a.annotation")


def test_a_number_too_large_for_a_float_is_a_sentence(tmp_path: Path) -> None:
    """Regression: an integer of 400 digits was an OverflowError with a traceback."""
    path = tmp_path / "a.annotation"
    path.write_bytes(b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[1, 1], [1, ' + b"9" * 400 +
                     b'], [2, 2]]]}, "properties": {"classification": "bone"}}]}')  # fmt: skip
    sentence(lambda: read_annotations(path, CLASSES, SLIDE), "feature 1 has broken coordinates")


@given(st.binary(max_size=300), st.sampled_from([b"", b"{", b"[", b"<", b"II*\0", b"<annotations>", b"<Annotations>"]))
@settings(max_examples=150)
def test_no_bytes_at_all_end_in_anything_but_outlines_or_a_sentence(tail: bytes, head: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.annotation"
        path.write_bytes(head + tail)
        try:
            read_annotations(path, CLASSES, SLIDE)
        except HistoError as error:
            said = str(error)
        else:
            said = "a.annotation"
    assert "a.annotation" in said


@given(st.text(min_size=1), st.sampled_from(["name", "classification", "label", "type"]))
@settings(max_examples=60)
def test_no_name_in_a_file_can_break_the_line_or_the_terminal(name: str, where: str) -> None:
    """A message shows words of a stranger's file: no newlines, escapes or endless text."""
    properties: dict[str, Any] = {where: name}
    kind = name if where == "type" else "Point"
    features = [
        {"properties": properties, "geometry": {"type": kind, "coordinates": [1, 2]}},
        {"properties": properties, "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9]]]}},
    ]
    for tree in (features, features[1:]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a"
            path.write_text(json.dumps(tree))
            try:
                read_annotations(path, CLASSES, SLIDE)
            except HistoError as error:
                said = str(error).removeprefix(f"annotation {path}")
            else:
                said = ""
        assert said.isprintable()
        assert len(said) < 500
