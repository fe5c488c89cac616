"""Aperio ImageScope: layers, regions, holes marked NegativeROA, boxes and ellipses."""

import math
from collections.abc import Callable

import pytest

from histo.data.annotation_formats.drawn import Drawn
from histo.outlines import area_px2, mend, to_polygon

Read = Callable[..., list[Drawn]]
BIG = [(0, 0), (100, 0), (100, 100), (0, 100)]


def region(points: list[tuple[float, float]], number: int = 1, kind: int = 0, negative: int = 0) -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points)
    return f'<Region Id="{number}" Type="{kind}" NegativeROA="{negative}"><Vertices>{vertices}</Vertices></Region>'


def layer(*regions: str, head: str = 'Name="bone" LineColor="65280"', attributes: str = "") -> str:
    body = f"<Attributes>{attributes}</Attributes><Regions>{''.join(regions)}</Regions>"
    return f'<Annotations MicronsPerPixel="0.25"><Annotation Id="1" {head}>{body}</Annotation></Annotations>'


def area(drawn: Drawn) -> float:
    return sum(area_px2(o) for rings in drawn.polygons for o in mend(rings))


def test_a_region_is_level0_px_whatever_the_bounds(read: Read) -> None:
    (drawn,) = read(layer(region(BIG)))
    assert drawn.polygons == ((tuple(BIG),),)
    assert (drawn.place, drawn.words) == ("layer 1 region 1", ("bone", "#00ff00"))


@pytest.mark.parametrize(
    ("head", "attributes", "words"),
    [
        ('Name="" LineColor="255"', "", ("#ff0000", "unclassified")),
        ('LineColor="16711935"', '<Attribute Name="CaP" Value=""/>', ("CaP", "#ff00ff")),
        ('LineColor="65535"', '<Attribute Name="Description" Value="tumour bed"/>', ("tumour bed", "#ffff00")),
        ('LineColor="red"', '<Attribute Name="Description" Value=""/>', ("unclassified",)),
    ],
)
def test_the_class_is_name_attribute_or_colour(head: str, attributes: str, words: tuple[str, ...], read: Read) -> None:
    assert read(layer(region(BIG), head=head, attributes=attributes))[0].words == words


def test_a_negative_region_is_a_hole_in_those_that_it_meets(read: Read) -> None:
    hole = [(10, 10), (20, 10), (20, 20), (10, 20)]
    over_the_edge = [(90, 40), (110, 40), (110, 60), (90, 60)]
    far = [(500, 500), (600, 500), (600, 600), (500, 600)]
    whole, other = read(layer(region(BIG), region(far, 2), region(hole, 3, 0, 1), region(over_the_edge, 4, 0, 1)))
    assert area(whole) == 100 * 100 - 10 * 10 - 10 * 20
    assert area(other) == 100 * 100


def test_a_hole_in_nothing_is_a_problem(read: Read) -> None:
    assert "is a hole (NegativeROA) in no region" in str(read(layer(region(BIG, negative=1)))[0].problem)


def test_an_ellipse_is_stored_as_the_corners_of_its_box(read: Read) -> None:
    for corners in ([(10, 20), (110, 20), (110, 80), (10, 80)], [(10, 20), (110, 80)]):
        (drawn,) = read(layer(region(corners, kind=2)))
        assert area(drawn) == pytest.approx(math.pi * 50 * 30, rel=2e-3)
        assert to_polygon(drawn.polygons[0]).bounds == pytest.approx((10, 20, 110, 80))


def test_a_box_may_be_two_corners(read: Read) -> None:
    (drawn,) = read(layer(region([(10, 20), (50, 90)], kind=1)))
    assert drawn.polygons == ((((10, 20), (50, 20), (50, 90), (10, 90)),),)


@pytest.mark.parametrize(("kind", "word"), [(3, "arrow"), (4, "ruler")])
def test_lines_have_no_area(kind: int, word: str, read: Read) -> None:
    (drawn,) = read(layer(region(BIG, kind=kind)))
    assert not drawn.area
    assert f"is a {word}" in str(drawn.problem)


def test_a_region_without_vertices_is_broken(read: Read) -> None:
    assert "broken coordinates" in str(read(layer(region([])))[0].problem)


def test_a_stroke_of_two_points_is_no_box(read: Read) -> None:
    """Regression: it was learnt from as the rectangle round it."""
    (stroke,) = read(layer(region([(100, 100), (500, 400)], kind=0)))
    assert "2 points, and an outline needs three" in str(stroke.problem)
    (box,) = read(layer(region([(100, 100), (500, 400)], kind=1)))
    assert area(box) == 400 * 300
