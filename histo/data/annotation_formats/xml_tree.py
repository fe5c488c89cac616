"""XML from strangers: parsed without entities, document types or anything else that can grow or reach out."""

from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from histo.data.annotation_formats.drawn import Drawn, broken, ring_of
from histo.outlines import Ring


def parse_xml(raw: bytes) -> Element:
    """Return the root element. Raises `ValueError` that says what is wrong."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(raw, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError("is XML with a document type or entities, which are never opened; export it again") from error
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"is not XML ({error}); export it again") from error
    return root


def ring_in(points: list[Element], x: str, y: str) -> Ring:
    """Return the ring of elements with coordinates in two attributes. Raises `ValueError`."""
    return ring_of([(p.get(x, ""), p.get(y, "")) for p in points])


def polygon_in(place: str, words: tuple[str, ...], points: list[Element], x: str, y: str) -> Drawn:
    """Return one polygon without holes, or what is broken about it."""
    try:
        return Drawn(place, words, ((ring_in(points, x, y),),))
    except ValueError as error:
        return broken(place, words, error)
