"""The Digital Slide Archive: documents, lists of documents, every shape with an area."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from histo.data.annotation_formats.drawn import Drawn
from histo.outlines import area_px2, mend, to_polygon

Read = Callable[..., list[Drawn]]
SQUARE = [[0, 0, 0], [80, 0, 0], [80, 50, 0], [0, 50, 0]]
HOLE = [[10, 10], [20, 10], [20, 20], [10, 20]]
POLYLINE = {"type": "polyline", "points": SQUARE, "closed": True}


def document(*elements: Any, name: str = "d") -> dict[str, Any]:
    return {"name": name, "elements": list(elements)}


def area(drawn: Drawn) -> float:
    assert drawn.problem is None
    return sum(area_px2(o) for rings in drawn.polygons for o in mend(rings))


@pytest.mark.parametrize(
    "tree",
    [
        document(POLYLINE, POLYLINE),
        {"_id": "1", "annotation": document(POLYLINE, POLYLINE)},
        [document(POLYLINE), {"annotation": document(POLYLINE)}],
    ],
    ids=["document", "girder", "list"],
)
def test_documents_come_alone_or_in_lists(tree: Any, read: Read) -> None:
    found = read(json.dumps(tree))
    assert [d.place for d in found] == ["element 1", "element 2"]
    assert found[0].polygons == ((((0, 0), (80, 0), (80, 50), (0, 50)),),)


@pytest.mark.parametrize(
    ("element", "expected", "bounds"),
    [
        (POLYLINE | {"holes": [HOLE]}, 4000 - 100, (0, 0, 80, 50)),
        ({"type": "rectangle", "center": [50, 60, 0], "width": 20, "height": 10}, 200, (40, 55, 60, 65)),
        (
            {"type": "ellipse", "center": [50, 60, 0], "width": 20, "height": 10, "rotation": math.pi / 2},
            math.pi * 50,
            (45, 50, 55, 70),
        ),
        ({"type": "circle", "center": [50, 60], "radius": 10}, math.pi * 100, (40, 50, 60, 70)),
    ],
    ids=["holes", "rectangle", "ellipse", "circle"],
)
def test_every_shape_has_its_area_and_place(
    element: dict[str, Any], expected: float, bounds: tuple[float, ...], read: Read
) -> None:
    (drawn,) = read(json.dumps(document(element)))
    assert area(drawn) == pytest.approx(expected, rel=2e-3)
    assert to_polygon(drawn.polygons[0]).bounds == pytest.approx(bounds)


def test_a_rectangle_turns_from_x_towards_y(read: Read) -> None:
    element = {"type": "rectangle", "center": [0, 0], "width": 20, "height": 2, "rotation": math.pi / 4}
    xs, ys = zip(*read(json.dumps(document(element)))[0].polygons[0][0], strict=True)
    right = max(range(len(xs)), key=lambda i: xs[i])
    assert ys[right] > 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"label": {"value": "bone"}, "group": "g"}, ("bone", "g")),
        ({"group": "g"}, ("g",)),
        ({}, ("d", "unclassified")),
    ],
)
def test_label_and_group_are_classes_and_the_document_s_name_counts_without_them(
    more: Any, words: tuple[str, ...], read: Read
) -> None:
    assert read(json.dumps(document(POLYLINE | more)))[0].words == words


@pytest.mark.parametrize("kind", ["point", "arrow", "heatmap", "pixelmap", None])
def test_what_has_no_area_says_so(kind: str | None, read: Read) -> None:
    assert not read(json.dumps(document({"type": kind, "center": [1, 2, 0]})))[0].area


def test_an_open_polyline_has_no_area(read: Read) -> None:
    assert "not closed" in str(read(json.dumps(document(POLYLINE | {"closed": False})))[0].problem)


@pytest.mark.parametrize(
    "element",
    [
        7, POLYLINE | {"points": None}, POLYLINE | {"points": [[1], [2], [3]]}, POLYLINE | {"holes": 7},
        {"type": "circle", "center": [1, 2]}, {"type": "circle", "center": [], "radius": 1},
        {"type": "rectangle", "center": [1, 2], "width": "w", "height": 1}, {"type": "ellipse", "width": 1},
    ],
)  # fmt: skip
def test_a_broken_element_is_that_element_s_problem(element: Any, read: Read) -> None:
    (drawn,) = read(json.dumps(document(element)))
    assert "broken coordinates" in str(drawn.problem)
