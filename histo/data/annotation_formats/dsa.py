"""The Digital Slide Archive and HistomicsTK: documents of `elements` in level-0 px (large_image's schema)."""

from collections.abc import Iterator
from typing import Any

from histo.data.annotation_formats.drawn import Drawn, broken, no_area, number, place_of, ring_of, words_of
from histo.outlines import Ring, box_ring, ellipse_ring


def is_dsa(tree: Any) -> bool:
    """Tell whether JSON is one such document, or a list of them."""
    return bool(tree) and all(_elements(d) is not None for d in (tree if isinstance(tree, list) else [tree]))


def read_dsa(tree: Any) -> Iterator[Drawn]:
    """Yield the elements of all documents, counted through."""
    count = 0
    for document in tree if isinstance(tree, list) else [tree]:
        body = document.get("annotation", document)
        for element in _elements(document) or []:
            count += 1
            yield _drawn(f"element {count}", element, body.get("name"))


def _elements(document: Any) -> list[Any] | None:
    body = document.get("annotation", document) if isinstance(document, dict) else None
    elements = body.get("elements") if isinstance(body, dict) else None
    return elements if isinstance(elements, list) else None


def _drawn(place: str, element: Any, document_name: Any) -> Drawn:
    if not isinstance(element, dict):
        return broken(place, words_of([]), "no element")
    label = element.get("label")
    called = label.get("value") if isinstance(label, dict) else label
    words = words_of([called, element.get("group")], [document_name])
    place = place_of(place, called)
    kind = element.get("type")
    try:
        if kind == "polyline" and element.get("closed"):
            holes = element.get("holes") or []
            return Drawn(place, words, ((ring_of(element["points"]), *(ring_of(h) for h in holes)),))
        if kind in ("rectangle", "ellipse", "circle"):
            return Drawn(place, words, ((_round_or_square(kind, element),),))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return broken(place, words, error if isinstance(error, ValueError) else "one is missing")
    return no_area(place, words, "polyline that is not closed" if kind == "polyline" else kind or "nothing")


def _round_or_square(kind: str, element: dict[str, Any]) -> Ring:
    centre = number(element["center"][0]), number(element["center"][1])
    if kind == "circle":
        radius = number(element["radius"])
        return ring_of(ellipse_ring(centre, (2 * radius, 2 * radius)))
    size = number(element["width"]), number(element["height"])
    turn = number(element.get("rotation") or 0)
    return ring_of(box_ring(centre, size, turn) if kind == "rectangle" else ellipse_ring(centre, size, turn))
