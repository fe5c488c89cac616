"""ASAP's XML: level-0 px, points in the order of their `Order`, classes are the names of groups."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from histo.data.annotation_formats.drawn import Drawn, broken, no_area, place_of, words_of
from histo.data.annotation_formats.xml_tree import polygon_in

# A spline is read through its points, with straight lines between them.
AREAS = ("Polygon", "Rectangle", "Spline")


def read_asap(root: Element) -> Iterator[Drawn]:
    """Yield the annotations of an `ASAP_Annotations` tree."""
    for count, annotation in enumerate(root.iterfind("Annotations/Annotation"), start=1):
        name = annotation.get("Name", "")
        group = annotation.get("PartOfGroup")
        words = words_of([None if group == "None" else group], [name])
        place = place_of(f"annotation {count}", name)
        kind = annotation.get("Type", "Polygon")
        if kind not in AREAS:
            yield no_area(place, words, kind)
            continue
        points = annotation.findall("Coordinates/Coordinate")
        try:
            points.sort(key=lambda p: float(p.get("Order", "")))
        except ValueError:
            yield broken(place, words, "a point without its order")
            continue
        # ASAP joins the ends of an area itself.
        yield polygon_in(place, words, [*points, *points[:1]], "X", "Y")
