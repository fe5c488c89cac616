"""Hamamatsu's NDPA: nm from the centre of the glass, so that the slide itself must say where its scan lies.

x_px = (x_nm - XOffsetFromSlideCentre) / nm per px + width / 2, with the pixel size that the scanner recorded.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from histo.data.annotation_formats.drawn import Drawn, broken, no_area, number, place_of, ring_of, shown, words_of
from histo.geometry import Pyramid, from_stage
from histo.outlines import ellipse_ring


def read_ndpa(root: Element, pyramid: Pyramid) -> Iterator[Drawn]:
    """Yield the view states of an `annotations` tree. Raises `ValueError` when the slide is no Hamamatsu scan."""
    if pyramid.stage is None:
        raise ValueError(
            "is a Hamamatsu NDPA in nm from the centre of the glass, and the slide does not record where its scan "
            "lies on the glass; use it with the NDPI file, or export GeoJSON from QuPath"
        )
    for count, state in enumerate(root.iterfind("ndpviewstate"), start=1):
        title = (state.findtext("title") or "").strip()
        place = place_of(f"view state {count}", title)
        shape = state.find("annotation")
        if shape is None:
            yield no_area(place, words_of([title]), "view without a drawing")
            continue
        words = words_of([title], colours=[shape.get("color", "").lower()])
        unit = (state.findtext("coordformat") or "nanometers").strip()
        if unit != "nanometers":
            yield broken(place, words, f"in {shown(unit)}, and only nanometers are read")
        else:
            yield _drawn(place, words, shape, pyramid)


def _drawn(place: str, words: tuple[str, ...], shape: Element, pyramid: Pyramid) -> Drawn:
    kind = shape.get("type", "freehand")
    try:
        if kind == "circle":
            centre = number(shape.findtext("x")), number(shape.findtext("y"))
            radius = number(shape.findtext("radius"))
            points = list(ellipse_ring(centre, (2 * radius, 2 * radius)))
        elif kind in ("freehand", "rectangle") and (shape.findtext("closed") or "1").strip() != "0":
            found = shape.iterfind("pointlist/point")
            points = [(number(p.findtext("x")), number(p.findtext("y"))) for p in found]
        else:
            return no_area(place, words, "freehand line that is not closed" if kind == "freehand" else kind)
        if not points:
            raise ValueError("no points")
        if pyramid.stage is None:
            raise ValueError("no place on the glass")
        ring = ring_of(from_stage(pyramid.stage, pyramid.size_level0_px, np.array(points)).tolist())
    except ValueError as error:
        return broken(place, words, error)
    return Drawn(place, words, ((ring,),))
