"""Linting annotations: what a person should look at before a network learns from it, with the place of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from histo.data.annotation_formats.drawn import Drawn
from histo.data.annotations import IGNORE, Vocabulary, no_class, outlines_of, words_in
from histo.data.findings import Finding
from histo.geometry import MapGrid, Pyramid
from histo.outlines import Outline, Ring, area_px2, cells_inside, to_polygon

OPEN_SHARE = 0.05  # of the ring's length: a gap this wide is no slip of the hand
SMALLEST_UM2 = 100.0  # a third of the smallest cell that is learnt (16 x 16 µm)
THINNEST_UM = 2.0  # no structure that is outlined is thinner
LEAST_ON_TISSUE = 0.5
OVERLAP_SHARE = 0.01  # of the smaller of two outlines
OUTSIDE_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Shape:
    """One object with its class and valid outlines, and where it was found."""

    place: str
    name: str
    outlines: list[Outline]


def lint(
    objects: Sequence[Drawn],
    vocabulary: Vocabulary,
    pyramid: Pyramid,
    tissue: tuple[NDArray[np.bool_], MapGrid] | None = None,
) -> tuple[list[Finding], list[Shape]]:
    """Check every object; return all findings, and the shapes that can be learnt from.

    `tissue` is the tissue mask (H, W) on its lattice; without it nothing is said of outlines beside the tissue.
    """
    findings: list[Finding] = []
    shapes: list[Shape] = []
    file_words = words_in(objects)
    for drawn in objects:
        name = vocabulary.find(drawn.words)
        if not drawn.area and name == IGNORE:
            continue
        if name is None and drawn.area:
            findings.append(_error("unknown_class", drawn.place, no_class(drawn, vocabulary, file_words)))
        outlines, problem = outlines_of(drawn, pyramid)
        if problem:
            findings.append(_error("broken", drawn.place, problem))
            continue
        findings += _ring_findings(drawn, pyramid)
        findings += _outline_findings(drawn.place, outlines, pyramid)
        if name is not None:
            shapes.append(Shape(drawn.place, name, outlines))
    findings += _overlaps(shapes, pyramid)
    if tissue is not None:
        findings += _off_tissue(shapes, pyramid, *tissue)
    return findings, shapes


def areas_mm2(shapes: Sequence[Shape], pyramid: Pyramid) -> Mapping[str, float]:
    """Return the outlined area of every class, overlaps counted once."""
    names = dict.fromkeys(s.name for s in shapes)
    parts = {n: [to_polygon(o) for s in shapes if s.name == n for o in s.outlines] for n in names}
    return {n: float(shapely.union_all(p).area) * pyramid.pixel_mm2 for n, p in parts.items()}


def _error(kind: str, place: str, message: str) -> Finding:
    return Finding("error", kind, place, message)


def _warning(kind: str, place: str, message: str) -> Finding:
    return Finding("warning", kind, place, message)


def _ring_findings(drawn: Drawn, pyramid: Pyramid) -> Iterator[Finding]:
    holes = sum(len(rings) - 1 for rings in drawn.polygons)
    if holes:
        what = "a hole" if holes == 1 else f"{holes} holes"
        yield Finding("note", "holes", drawn.place, f"has {what}, which take the label of what lies around the outline")
    for ring in (ring for rings in drawn.polygons for ring in rings):
        gap = float(np.hypot(*np.subtract(ring[0], ring[-1])))
        length = float(np.hypot(*np.diff(np.asarray(ring), axis=0).T).sum())
        if gap > OPEN_SHARE * length and len(ring) > 4:
            yield _warning(
                "open", drawn.place, f"is not closed: a straight line of {gap:.0f} px joins its ends; check its shape"
            )
        if not shapely.is_simple(shapely.LinearRing(ring)):
            yield _warning("crossing", drawn.place, f"crosses itself{_where(ring)}; all that it goes round is kept")


def _where(ring: Ring) -> str:
    """Say where a ring first crosses itself, as far as shapely tells."""
    reason = shapely.is_valid_reason(shapely.Polygon(ring))
    _, bracket, place = reason.partition("[")
    return f" near x {place.rstrip(']').replace(' ', ', y ')}" if bracket else ""


def _outline_findings(place: str, outlines: Sequence[Outline], pyramid: Pyramid) -> Iterator[Finding]:
    width, height = pyramid.size_level0_px
    polygon = shapely.union_all([to_polygon(o) for o in outlines])
    inside = shapely.intersection(polygon, shapely.box(0, 0, width, height))
    out = 1 - inside.area / polygon.area
    if out > OUTSIDE_SHARE:
        yield _warning(
            "outside", place, f"reaches out of the slide with {out:.0%} of its area; that part is not learnt"
        )
    pixel_um2 = pyramid.mpp_x * pyramid.mpp_y
    slivers = [o for o in outlines if _is_sliver(o, pixel_um2)]
    if slivers:
        x, y = slivers[0][0][0]
        what = "is" if len(outlines) == 1 else f"has {len(slivers)} part(s)"
        yield _warning(
            "sliver",
            place,
            f"{what} too small or thin to be learnt ({area_px2(slivers[0]) * pixel_um2:.1f} µm² near x {x:.0f}, "
            f"y {y:.0f}); delete it if it is a slip",
        )


def _is_sliver(outline: Outline, pixel_um2: float) -> bool:
    polygon = to_polygon(outline)
    area_um2 = polygon.area * pixel_um2
    width_um = 2 * polygon.area / polygon.length * pixel_um2**0.5
    return bool(area_um2 < SMALLEST_UM2 or width_um < THINNEST_UM)


def _overlaps(shapes: Sequence[Shape], pyramid: Pyramid) -> Iterator[Finding]:
    """Compare outlines of different classes that lie over one another."""
    owners = [s for s in shapes for _ in s.outlines]
    polygons = np.array([to_polygon(o) for s in shapes for o in s.outlines], dtype=object)
    if len(polygons) < 2:
        return
    tree = shapely.STRtree(polygons)
    shared: dict[tuple[int, int], float] = {}
    places = {id(s): n for n, s in enumerate(shapes)}
    for one, other in tree.query(polygons, predicate="intersects").T:
        if one < other and owners[one].name != owners[other].name:
            area = float(shapely.intersection(polygons[one], polygons[other]).area)
            if area > OVERLAP_SHARE * min(polygons[one].area, polygons[other].area):
                pair = (places[id(owners[one])], places[id(owners[other])])
                shared[pair] = shared.get(pair, 0.0) + area
    for (one, other), area in shared.items():
        first, second = shapes[one], shapes[other]
        yield _warning(
            "overlap",
            second.place,
            f"({second.name}) lies over {first.place} ({first.name}) on {area * pyramid.pixel_mm2:.4f} mm²; the class "
            "of higher precedence is learnt there, and ignore before all",
        )


def _off_tissue(
    shapes: Sequence[Shape], pyramid: Pyramid, tissue: NDArray[np.bool_], grid: MapGrid
) -> Iterator[Finding]:
    drawn = on = 0.0
    for shape in shapes:
        if shape.name == IGNORE:
            continue
        cells = np.concatenate([cells_inside(o, grid) for o in shape.outlines])
        if not len(cells):
            continue  # off the scanned bounds, or smaller than a cell: told already
        share = float(tissue[cells[:, 0], cells[:, 1]].mean())
        area = sum(area_px2(o) for o in shape.outlines)
        drawn, on = drawn + area, on + share * area
        if share < LEAST_ON_TISSUE:
            x, y = shape.outlines[0][0][0]
            yield _warning(
                "off_tissue", shape.place, f"lies to {1 - share:.0%} beside the tissue near x {x:.0f}, y {y:.0f}"
            )
    if drawn and on < LEAST_ON_TISSUE * drawn:
        yield _error(
            "off_tissue",
            "the whole file",
            f"{1 - on / drawn:.0%} of the outlined area lies beside the tissue; it is shifted, or another slide's",
        )
