"""GeoJSON as QuPath, histo, dlup and the Digital Slide Archive write it (RFC 7946, but pixels instead of degrees).

QuPath counts pixels from the corner of the scanner's bounds; a foreign member `"histo": {"origin": "level0"}`, or the
Digital Slide Archive's own `annotation` member, says that a file counts from the corner of level 0.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from histo.data.annotation_formats.drawn import Drawn, broken, no_area, number, place_of, ring_of, words_of
from histo.geometry import Pyramid
from histo.outlines import Ring

Shift = tuple[float, float]


def read_geojson(tree: Any, pyramid: Pyramid) -> Iterator[Drawn]:
    """Yield the features of a collection, a list or a single feature; raises `ValueError` when it is none."""
    if isinstance(tree, dict) and tree.get("type") == "Feature":
        features: Any = [tree]
    else:
        features = tree.get("features") if isinstance(tree, dict) else tree
    if not isinstance(features, list):
        raise ValueError("holds no list of GeoJSON features; export it again as GeoJSON")
    ours = tree.get("histo") if isinstance(tree, dict) else None
    from_level0 = isinstance(ours, dict) and ours.get("origin") == "level0"
    x, y, _, _ = pyramid.bounds_level0_px
    for count, feature in enumerate(features, start=1):
        if not isinstance(feature, dict):
            yield no_area(f"feature {count}", (), "feature of no kind")
            continue
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        place = place_of(f"feature {count}", properties.get("name"))
        at_level0 = from_level0 or isinstance(properties.get("annotation"), dict)
        yield _drawn(
            place, _words(properties), feature.get("geometry"), (0.0, 0.0) if at_level0 else (float(x), float(y))
        )


def _words(properties: dict[str, Any]) -> tuple[str, ...]:
    found = properties.get("classification")
    if isinstance(found, dict):
        names = found.get("names")
        if isinstance(names, list) and names and all(isinstance(n, str) for n in names):
            return (": ".join(names),)
        found = found.get("name")
    if isinstance(found, str) and found.strip():
        return (found,)
    label = properties.get("label")
    label = label.get("value") if isinstance(label, dict) else label
    return words_of([label, properties.get("group")], [properties.get("name")])


def _drawn(place: str, words: tuple[str, ...], geometry: Any, shift: Shift) -> Drawn:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        return no_area(place, words, kind or "feature without geometry")
    try:
        coordinates = geometry["coordinates"]
        parts = [coordinates] if kind == "Polygon" else coordinates
        polygons = tuple(tuple(_ring(ring, shift) for ring in _list(part)) for part in _list(parts))
    except (ValueError, KeyError) as error:
        return broken(place, words, error if isinstance(error, ValueError) else "none at all")
    if not polygons or not all(polygons):
        return broken(place, words, "no ring")
    return Drawn(place, words, polygons)


def _ring(points: Any, shift: Shift) -> Ring:
    ring = ring_of([_point(p) for p in _list(points)])
    return tuple((x + shift[0], y + shift[1]) for x, y in ring)


def _point(point: Any) -> Sequence[float]:
    if not isinstance(point, list) or len(point) < 2:
        raise ValueError("a point without x and y")
    return number(point[0]), number(point[1])


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value
