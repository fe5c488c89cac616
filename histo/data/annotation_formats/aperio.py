"""Aperio ImageScope's XML: layers of regions in level-0 px; a region marked `NegativeROA` is a hole in the others."""

from collections.abc import Iterator
from dataclasses import replace
from xml.etree.ElementTree import Element

from histo.data.annotation_formats.drawn import Drawn, broken, no_area, ring_of, shown, words_of
from histo.data.annotation_formats.xml_tree import ring_in
from histo.outlines import Ring, ellipse_ring, meet

_LINES = {"3": "arrow", "4": "ruler", "5": "pin"}
_RECTANGLE, _ELLIPSE = "1", "2"


def read_aperio(root: Element) -> Iterator[Drawn]:
    """Yield the regions of an `Annotations` tree; a layer's class is its name, its attribute or its colour."""
    for number, layer in enumerate(root.iterfind("Annotation"), start=1):
        words = _words(layer)
        shapes: list[Drawn] = []
        holes: list[Drawn] = []
        for region in layer.iterfind("Regions/Region"):
            place = f"layer {number} region {shown(region.get('Id', '?'))}"
            negative = region.get("NegativeROA", "0") not in ("0", "")
            (holes if negative else shapes).append(_drawn(place, words, region))
        yield from _cut(shapes, holes)


def _words(layer: Element) -> tuple[str, ...]:
    """Return what may name the class; the colour, a Windows COLORREF (0xBBGGRR), comes last as `#rrggbb`."""
    named: list[str | None] = [layer.get("Name")]
    for attribute in layer.iterfind("Attributes/Attribute"):
        name = attribute.get("Name", "")
        named += [attribute.get("Value"), None if name == "Description" else name]
    try:
        colour = int(layer.get("LineColor", "")).to_bytes(3, "little")
    except (ValueError, OverflowError):
        return words_of(named)
    return words_of(named, colours=[f"#{colour.hex()}"])


def _drawn(place: str, words: tuple[str, ...], region: Element) -> Drawn:
    kind = region.get("Type", "0")
    if kind in _LINES:
        return no_area(place, words, _LINES[kind])
    vertices = region.findall("Vertices/Vertex")
    try:
        # A box may be stored as two of its corners, and an ellipse as its box.
        is_box = kind in (_RECTANGLE, _ELLIPSE) and len(vertices) == 2
        ring = _from_corners(vertices) if is_box else ring_in(vertices, "X", "Y")
        if kind == _ELLIPSE and len(ring) <= 5:
            ring = ring_of(ellipse_ring(*_box(ring)))
    except ValueError as error:
        return broken(place, words, error)
    return Drawn(place, words, ((ring,),))


def _from_corners(vertices: list[Element]) -> Ring:
    (left, top), _, (right, bottom) = ring_in([vertices[0], vertices[0], vertices[1]], "X", "Y")
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _box(ring: Ring) -> tuple[tuple[float, float], tuple[float, float]]:
    xs, ys = zip(*ring, strict=True)
    return ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2), (max(xs) - min(xs), max(ys) - min(ys))


def _cut(shapes: list[Drawn], holes: list[Drawn]) -> Iterator[Drawn]:
    """Yield the shapes with the holes that lie in them, and as problems the holes that lie in none."""
    whole = [h for h in holes if h.polygons]
    hit: set[str] = set()
    for shape in shapes:
        inside = [h for h in whole if shape.polygons and meet(shape.polygons[0][0], h.polygons[0][0])]
        hit.update(h.place for h in inside)
        rings = tuple(h.polygons[0][0] for h in inside)
        yield replace(shape, polygons=tuple((*p, *rings) for p in shape.polygons)) if rings else shape
    for h in holes:
        if not h.polygons:
            yield h
        elif h.place not in hit:
            yield Drawn(h.place, h.words, problem="is a hole (NegativeROA) in no region of its layer; delete it")
