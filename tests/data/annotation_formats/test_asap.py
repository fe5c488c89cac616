"""ASAP: level-0 px, points in their order, groups as classes."""

from collections.abc import Callable

import pytest

from histo.data.annotation_formats.drawn import UNCLASSIFIED, Drawn

Read = Callable[..., list[Drawn]]


def asap(points: str, **attributes: str) -> str:
    named = {"Name": "Annotation 0", "Type": "Polygon", "PartOfGroup": "bone", **attributes}
    text = " ".join(f'{k}="{v}"' for k, v in named.items())
    return (
        f"<?xml version='1.0'?><ASAP_Annotations><Annotations><Annotation {text}><Coordinates>{points}</Coordinates>"
        "</Annotation></Annotations></ASAP_Annotations>"
    )


SQUARE = "".join(
    f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate([(0, 0), (9.5, 0), (9.5, 8), (0, 8)])
)


def test_coordinates_are_level0_px_whatever_the_bounds(read: Read) -> None:
    (drawn,) = read(asap(SQUARE))
    assert drawn.polygons == ((((0, 0), (9.5, 0), (9.5, 8), (0, 8), (0, 0)),),)
    assert drawn.place == "annotation 1 (Annotation 0)"


def test_points_are_sorted_by_their_order_as_numbers(read: Read) -> None:
    points = "".join(f'<Coordinate Order="{n}" X="{n}" Y="{n * n}"/>' for n in (10, 2, 9, 0))
    (drawn,) = read(asap(points))
    assert [x for x, _ in drawn.polygons[0][0]] == [0, 2, 9, 10, 0]


def test_a_decimal_comma_is_read(read: Read) -> None:
    (drawn,) = read(asap(SQUARE.replace("9.5", "9,5")))
    assert drawn.polygons[0][0][1] == (9.5, 0)


@pytest.mark.parametrize(("group", "words"), [("bone", ("bone",)), ("None", ("Annotation 0", UNCLASSIFIED))])
def test_the_group_is_the_class_and_the_name_counts_without_one(group: str, words: tuple[str, ...], read: Read) -> None:
    assert read(asap(SQUARE, PartOfGroup=group))[0].words == words


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement"])
def test_what_has_no_area_says_so(kind: str, read: Read) -> None:
    (drawn,) = read(asap(SQUARE, Type=kind))
    assert not drawn.area
    assert drawn.problem == f"is a {kind}; only polygons have an area to learn from"


@pytest.mark.parametrize(
    "points",
    ["", SQUARE.replace('Order="2"', 'Order="x"'), SQUARE.replace('X="9.5"', 'X="nan"'), SQUARE.replace("9.5", "1e9")],
)
def test_broken_points_are_that_annotation_s_problem(points: str, read: Read) -> None:
    (drawn,) = read(asap(points))
    assert drawn.area
    assert "broken coordinates" in str(drawn.problem)
