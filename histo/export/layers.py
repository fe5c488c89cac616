"""The layers of the overlay: tissue, heat, what was not scored, lesion outlines and their marks.

All of them are drawn on one lattice, the canvas, whose pixels are square in µm; everything gets there
through level-0 pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from histo.export.colour import VISIBLE_FROM, Colour, blend, rgba
from histo.export.lettering import PAPER, put_text, text_width
from histo.geometry import MapGrid, rebin, round_px
from histo.outlines import Outline
from histo.results import Lesion, ModelInfo, Overview, SlideMap

UNREADABLE: Colour = (60, 66, 76)
EXCLUDED: Colour = (120, 130, 145)
SCREENED: Colour = (38, 120, 106)
HALO: Colour = (22, 24, 30)
MOST_MARKS = 40  # more would hide the tissue
_HATCH_PX = 11
_DOT_EVERY_PX, _DOT_PX = 11, 2
_SUBPIXEL_BITS = 8
_GREYED = 0.55  # share of the colour taken out
_PALED = 0.5  # share of the distance from white that is left

Box = tuple[float, float, float, float]  # left, top, right, bottom


def canvas_grid(overview: MapGrid, room_px: tuple[int, int]) -> MapGrid:
    """Return the lattice over the same area that fits in `room_px` (width, height), pixels square in µm."""
    rows, columns = overview.shape
    extent_um = columns * overview.cell_um[0], rows * overview.cell_um[1]
    um_per_px = max(extent_um[0] / room_px[0], extent_um[1] / room_px[1])
    width, height = (max(1, round_px(e / um_per_px)) for e in extent_um)
    # Cells that fill the area exactly: what is left of rounding goes into the scale, not into an offset.
    shrink = columns / width, rows / height
    cell_level0_px = overview.cell_level0_px[0] * shrink[0], overview.cell_level0_px[1] * shrink[1]
    cell_um = overview.cell_um[0] * shrink[0], overview.cell_um[1] * shrink[1]
    return MapGrid(overview.origin_level0_px, cell_level0_px, (height, width), cell_um)


def tissue_layer(overview: Overview, canvas: MapGrid) -> NDArray[np.uint8]:
    """Return the overview picture (H, W, 3) on the canvas."""
    height, width = canvas.shape
    smaller = height < overview.rgb.shape[0]
    return cv2.resize(
        overview.rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    ).astype(np.uint8)


def paled(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take part of the stain's colour and half of its depth out, so that heat has its own colour on any tissue."""
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(rgb, (1 - _GREYED) * _PALED, grey, _GREYED * _PALED, 255 * (1 - _PALED)).astype(np.uint8)


def add_heat(rgb: NDArray[np.uint8], slide_map: SlideMap, model: ModelInfo, canvas: MapGrid) -> NDArray[np.uint8]:
    """Lay the probability of every lesion class over the picture, the class of highest precedence on top."""
    channels = slide_map.probability[1:]
    for rule, probability in reversed(list(zip(model.classes, channels, strict=True))):
        scored = np.where(slide_map.valid, probability, 0).astype(np.float32)
        if scored.max(initial=0) <= VISIBLE_FROM:
            continue  # nothing of it would show
        rgb = blend(rgb, rgba(rebin(scored, slide_map.grid, canvas), rule.colour))
    return rgb


def unscored_masks(slide_map: SlideMap, canvas: MapGrid) -> tuple[NDArray[np.bool_], ...]:
    """Return where on the canvas tissue could not be read, was excluded and was screened only, all (H, W)."""
    usable = (slide_map.tissue - slide_map.excluded).clip(0)
    passed_over = slide_map.passed_over
    lost = _mostly(np.where(slide_map.valid | passed_over, 0, usable), slide_map.grid, canvas)
    screened = _mostly(np.where(passed_over, usable, 0), slide_map.grid, canvas)
    excluded = _mostly(slide_map.excluded, slide_map.grid, canvas)
    return lost & ~excluded, excluded, screened & ~excluded & ~lost


def _mostly(share: NDArray[np.float32], grid: MapGrid, canvas: MapGrid) -> NDArray[np.bool_]:
    """Return where a share of map cells is a quarter or more on the canvas."""
    return rebin(share, grid, canvas) >= 0.25


def hatch(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, crossed: bool) -> NDArray[np.uint8]:
    """Hatch the masked area over a light tint, with one set of lines or with two."""
    if not mask.any():
        return rgb
    y, x = np.arange(mask.shape[0])[:, None], np.arange(mask.shape[1])
    lines = (x + y) % _HATCH_PX < 2
    if crossed:
        lines = lines | ((x - y) % _HATCH_PX < 2)
    out = rgb.copy()
    out[mask] = out[mask] // 2 + 127
    out[mask & lines] = colour
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    out[edge] = colour
    return out


def dot(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour) -> NDArray[np.uint8]:
    """Dot the masked area, which may be most of a slide: the tissue stays in sight, and a light rim shows on dark."""
    if not mask.any():
        return rgb
    y, x = np.arange(mask.shape[0])[:, None], np.arange(mask.shape[1])
    column, row = (x + y // _DOT_EVERY_PX % 2 * (_DOT_EVERY_PX // 2)) % _DOT_EVERY_PX, y % _DOT_EVERY_PX
    first = (mask & (column == 1) & (row == 1)).view(np.uint8)  # the first pixel of each dot, whole or not at all
    out = rgb.copy()
    for rim, shade in ((1, PAPER), (0, colour)):
        side = _DOT_PX + 2 * rim
        out[cv2.dilate(first, np.ones((side, side), np.uint8), anchor=(side - 1 - rim,) * 2) > 0] = shade
    return out


def draw_outlines(
    rgb: NDArray[np.uint8], lesions: tuple[Lesion, ...], colours: Mapping[str, Colour], canvas: MapGrid
) -> NDArray[np.uint8]:
    """Draw the outlines as lines in the class colour on a dark edge; all edges first, so that none hides a line."""
    out = np.ascontiguousarray(rgb)
    for thickness, halo in ((5, True), (2, False)):
        for lesion in lesions:
            colour = HALO if halo else colours.get(lesion.class_name, EXCLUDED)
            cv2.polylines(
                out, _corners(lesion.outline, canvas), True, colour, thickness, cv2.LINE_AA, shift=_SUBPIXEL_BITS
            )
    return out


def _corners(outline: Outline, canvas: MapGrid) -> list[NDArray[np.int32]]:
    """Return the rings as fixed-point canvas pixels, whose centres OpenCV has at whole numbers."""
    rings = (canvas.to_map_px(np.asarray(ring)) - 0.5 for ring in outline)
    return [np.floor(xy * 2**_SUBPIXEL_BITS + 0.5).astype(np.int32).reshape(-1, 1, 2) for xy in rings]


def by_rank(lesions: Iterable[Lesion]) -> list[Lesion]:
    """Order lesions by their share of their class's expected area; older results do not say, and go by area."""
    return sorted(lesions, key=lambda one: (-(one.contribution or 0.0), -one.area_mm2))


def foremost(lesions: Iterable[Lesion]) -> list[Lesion]:
    """Return the lesions that are marked: of every class in turn by rank, as many as leave the tissue in sight."""
    by_class: dict[str, list[Lesion]] = {}
    for lesion in by_rank(lesions):
        by_class.setdefault(lesion.class_name, []).append(lesion)
    return [one for turn in zip_longest(*by_class.values()) for one in turn if one][:MOST_MARKS]


def put_marks(
    picture: Image.Image, lesions: Sequence[Lesion], names: Mapping[str, str], canvas: MapGrid, size_px: int = 24
) -> None:
    """Write each lesion's mark at its edge, the largest first, where it covers no other mark and no other lesion."""
    draw = ImageDraw.Draw(picture)
    taken: list[Box] = []
    rings = {one.lesion_id: canvas.to_map_px(np.asarray(one.outline[0])) for one in lesions}
    for lesion in sorted(lesions, key=lambda one: -one.area_mm2):
        text = names[lesion.lesion_id]
        width, height = text_width(text, size_px), size_px
        right, bottom = max(0, picture.width - width), max(0, picture.height - height)
        spots = _beside(rings[lesion.lesion_id], width, height)
        within = [(float(np.clip(x, 0, right)), float(np.clip(y, 0, bottom))) for x, y in spots]
        others = [ring for other, ring in rings.items() if other != lesion.lesion_id]
        # A mark in a bad place is better than a lesion that the table names and the picture does not.
        box = min(((x, y, x + width, y + height) for x, y in within), key=lambda b: _in_the_way(b, taken, others))
        taken.append(box)
        put_text(draw, box[:2], text, size_px, halo_px=3)


def _beside(ring: NDArray[np.float64], width: float, height: float) -> list[tuple[float, float]]:
    """Return the corners of boxes right, left, above and below a ring (N, 2), each where the ring reaches farthest."""
    (left, top), (right, bottom) = ring[ring.argmin(axis=0)], ring[ring.argmax(axis=0)]  # points, not coordinates
    return [
        (right[0] + 5, right[1] - height / 2),
        (left[0] - width - 5, left[1] - height / 2),
        (top[0] - width / 2, top[1] - height - 5),
        (bottom[0] - width / 2, bottom[1] + 5),
    ]


def _in_the_way(box: Box, marks: Sequence[Box], rings: Sequence[NDArray[np.float64]]) -> tuple[int, int]:
    """Return how many marks a box would cover, and how many lesions' outlines."""
    x0, y0, x1, y1 = box
    covered = sum(x0 < m[2] and m[0] < x1 and y0 < m[3] and m[1] < y1 for m in marks)
    return covered, sum(bool(((r > (x0, y0)) & (r < (x1, y1))).all(axis=1).any()) for r in rings)
