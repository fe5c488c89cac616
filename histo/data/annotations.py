"""Readers of annotation files: outlines by class, in level-0 px.

QuPath's GeoJSON counts pixels from the corner of the scanner's bounds; a foreign member
`"histo": {"origin": "level0"}` says that a file counts from the corner of level 0 instead.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely
from shapely.errors import ShapelyError

from histo.errors import UsageError
from histo.geometry import Pyramid
from histo.outlines import Outline, polygons_of

MAX_LEVEL0_PX = 1e7  # no slide is larger
IGNORE = "ignore"  # QuPath's own word for regions that must not be learnt, also as `Ignore*`


def read_annotations(path: Path, classes: Sequence[str], pyramid: Pyramid) -> Mapping[str, list[Outline]]:
    """Read a QuPath GeoJSON file: outlines for each of `classes` that occurs, and for `ignore`.

    Raises `UsageError` naming the file, the feature and the problem: not JSON, no class, an unknown class, a
    shape without area, coordinates outside the slide.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"annotation {path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"annotation {path} is not JSON ({error}); export it again as GeoJSON") from error
    ours = tree.get("histo") if isinstance(tree, dict) else None
    from_level0 = isinstance(ours, dict) and ours.get("origin") == "level0"
    x, y, _, _ = pyramid.bounds_level0_px
    shift = (0.0, 0.0) if from_level0 else (float(x), float(y))
    outlines: dict[str, list[Outline]] = {}
    for number, feature in enumerate(_features(tree, path), start=1):
        where = f"annotation {path}, feature {number}"
        name = _class_of(feature, where, classes)
        outlines.setdefault(name, []).extend(_outlines_of(feature, where, shift, pyramid))
    return outlines


def _features(tree: Any, path: Path) -> list[Any]:
    if isinstance(tree, dict) and tree.get("type") == "Feature":
        return [tree]
    features = tree.get("features") if isinstance(tree, dict) else tree
    if not isinstance(features, list):
        raise UsageError(f"annotation {path} holds no list of GeoJSON features; export it again as GeoJSON")
    return features


def _class_of(feature: Any, where: str, classes: Sequence[str]) -> str:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    found = properties.get("classification") if isinstance(properties, dict) else None
    name = found.get("name") if isinstance(found, dict) else found
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where} has no classification; give it one of {', '.join(classes)} or {IGNORE}")
    wanted = name.strip().rstrip("*").casefold()
    for known in (*classes, IGNORE):
        if wanted == known.casefold():
            return known
    raise UsageError(f"{where} has the unknown class {name!r}; use one of {', '.join(classes)} or {IGNORE}")


def _numbers(coordinates: Any) -> Iterator[float]:
    """Yield all numbers of nested lists; NaN is among them and is less than nothing."""
    if isinstance(coordinates, list):
        for inner in coordinates:
            yield from _numbers(inner)
    else:
        yield float(coordinates)


def _outlines_of(feature: Any, where: str, shift: tuple[float, float], pyramid: Pyramid) -> list[Outline]:
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise UsageError(f"{where} is a {kind or 'feature without geometry'}; only polygons have an area to learn from")
    try:
        if not all(abs(number) < MAX_LEVEL0_PX for number in _numbers(geometry["coordinates"])):
            raise ValueError("a coordinate that is no number or far too large")
        moved = shapely.transform(shapely.geometry.shape(geometry), lambda xy: xy + shift)
        outlines = polygons_of(moved)
    except (ShapelyError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UsageError(f"{where} has broken coordinates ({error}); draw or export it again") from error
    if not outlines:
        raise UsageError(f"{where} has no area; draw it again or delete it")
    width, height = pyramid.size_level0_px
    left, top, right, bottom = moved.bounds
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise UsageError(f"{where} lies outside the slide of {width} x {height} px; is it another slide's annotation?")
    return outlines
