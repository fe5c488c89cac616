"""The overlay: a slide's tissue beside its heatmap and lesion outlines, with legend and scale bar."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from histo.export.layers import (
    EXCLUDED,
    SCREENED,
    UNREADABLE,
    add_heat,
    canvas_grid,
    dot,
    draw_outlines,
    foremost,
    hatch,
    paled,
    put_marks,
    tissue_layer,
    unscored_masks,
)
from histo.export.legend import render_legend
from histo.export.lettering import GREY, PAPER, is_drawn_as_written, put_scale_bar, put_text, shortened, text_width
from histo.export.words import label_words, marks, model_words
from histo.files import whole
from histo.geometry import MapGrid
from histo.results import Overview, SlidePrediction, SlideResult
from histo.wording import pretty, printable, probability_words

LONGEST_PX = 2000
THUMBNAIL_PX = 264, 200
_NARROWEST_PX = 1100
_MARGIN = 36
_HEADER = 128
_FOOTER = 210
_GAP = 28
_LEAST_FOR_BAR_PX = 150  # on less a scale bar would hide the tissue

Room = tuple[int, int]


def write_overlay(prediction: SlidePrediction, path: Path) -> None:
    """Write the sheet as a PNG of about 2000 px on the longer side; model and notice are also in its text chunks."""
    model = prediction.result.model
    text = PngInfo()
    for key, value in (
        ("Slide", prediction.result.slide_id),
        ("Model", model.name),
        ("Model digest", model.digest),
        ("Notice", prediction.result.research_use),
    ):
        text.add_itxt(key, printable(value))
    sheet = Image.fromarray(render_sheet(prediction))
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG", compress_level=1, pnginfo=text)


def write_thumbnail(prediction: SlidePrediction, path: Path) -> None:
    """Write heat and outlines over the tissue as a small JPEG, for the worklist."""
    # Drawn twice as large, so that lines get thinner with the picture.
    picture = Image.fromarray(_drawn(prediction, (2 * THUMBNAIL_PX[0], 2 * THUMBNAIL_PX[1]))[0])
    picture.thumbnail(THUMBNAIL_PX)
    with whole(path) as temporary:
        picture.save(temporary, format="JPEG", quality=88)


def render_overlay(prediction: SlidePrediction, room_px: Room = (LONGEST_PX, LONGEST_PX)) -> NDArray[np.uint8]:
    """Return heat, outlines, marks and a scale bar over the tissue.

    The picture (H, W, 3) lies on `canvas_grid(overview.grid, room_px)`. Raises ValueError when the
    prediction has no overview.
    """
    rgb, canvas = _drawn(prediction, room_px)
    picture, lesions = Image.fromarray(rgb), prediction.result.lesions
    put_marks(picture, foremost(lesions), marks(lesions), canvas)
    _scale_bar(picture, canvas)
    return np.asarray(picture)


def _drawn(prediction: SlidePrediction, room_px: Room) -> tuple[NDArray[np.uint8], MapGrid]:
    """Return heat and outlines over the tissue (H, W, 3), without lettering, and the canvas they lie on."""
    overview = _overview(prediction)
    canvas = canvas_grid(overview.grid, room_px)
    result, slide_map = prediction.result, prediction.slide_map
    rgb = paled(tissue_layer(overview, canvas))
    if slide_map is not None:
        rgb = add_heat(rgb, slide_map, result.model, canvas)
        lost, excluded, screened = unscored_masks(slide_map, canvas)
        rgb = dot(rgb, screened, SCREENED)
        rgb = hatch(rgb, excluded, EXCLUDED, crossed=True)
        rgb = hatch(rgb, lost, UNREADABLE, crossed=False)
    colours = {c.name: c.colour for c in result.model.classes}
    return draw_outlines(rgb, result.lesions, colours, canvas), canvas


def render_tissue(prediction: SlidePrediction, room_px: Room) -> NDArray[np.uint8]:
    """Return the plain tissue (H, W, 3) with a scale bar in mm, on the canvas of `render_overlay`."""
    overview = _overview(prediction)
    canvas = canvas_grid(overview.grid, room_px)
    picture = Image.fromarray(tissue_layer(overview, canvas))
    _scale_bar(picture, canvas)
    return np.asarray(picture)


def _scale_bar(picture: Image.Image, canvas: MapGrid) -> None:
    if _bar_fits(canvas):
        put_scale_bar(picture, 1000 / canvas.cell_um[0], "mm", size_px=min(26, picture.width // 16))


def _bar_fits(canvas: MapGrid) -> bool:
    return min(canvas.shape) >= _LEAST_FOR_BAR_PX


def render_sheet(prediction: SlidePrediction) -> NDArray[np.uint8]:
    """Return the whole sheet (H, W, 3): title, tissue beside overlay (or above it on wide slides), legend."""
    overview = _overview(prediction)
    room, beside = panel_room(overview)
    panels = [render_tissue(prediction, room), render_overlay(prediction, room)]
    height, width = panels[0].shape[:2]
    step = (width + _GAP, 0) if beside else (0, height + _GAP)
    content = width + step[0]
    total_w = max(_NARROWEST_PX, content + 2 * _MARGIN)
    canvas = canvas_grid(overview.grid, room)
    px_per_mm = None if _bar_fits(canvas) else 1000 / canvas.cell_um[0]
    legend = render_legend(prediction, total_w - 2 * _MARGIN, px_per_mm)
    panels_end = _HEADER + height + step[1]
    sheet = Image.new("RGB", (total_w, panels_end + 28 + legend.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, panel in enumerate(panels):
        x, y = (total_w - content) // 2 + i * step[0], _HEADER + i * step[1]
        sheet.paste(Image.fromarray(panel), (x, y))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=(200, 205, 212))
    _header(draw, prediction.result, total_w)
    sheet.paste(legend, (_MARGIN, panels_end + 28))
    return np.asarray(sheet)


def panel_room(overview: Overview) -> tuple[Room, bool]:
    """Return the room (width, height) in px of one panel, and whether the two go side by side or stacked."""
    wide, tall = LONGEST_PX - 2 * _MARGIN, LONGEST_PX - _HEADER - _FOOTER
    beside, stacked = ((wide - _GAP) // 2, tall), (wide, (tall - _GAP) // 2)
    area = [np.prod(canvas_grid(overview.grid, room).shape) for room in (beside, stacked)]
    return (beside, True) if area[0] >= area[1] else (stacked, False)


def title_words(result: SlideResult) -> str:
    """Return the verdict, or the status where there is none to rely on."""
    if result.status in ("refused", "failed") or result.verdict is None:
        return f"{pretty(result.status)}: no verdict"
    label = label_words(result.verdict.label, result.model)
    also = "".join(f", also {pretty(name).lower()}" for name in result.verdict.also)
    sure = probability_words(result.verdict.probability.get(result.verdict.label, float("nan")))
    return f"{'Review. Model suggests: ' if result.status == 'review' else ''}{label}{also} ({sure})"


def _header(draw: ImageDraw.ImageDraw, result: SlideResult, width: int) -> None:
    room = width - 2 * _MARGIN
    put_text(draw, (_MARGIN, 22), shortened(title_words(result), 38, room), 38)
    model = f"Model {model_words(result.model)}"
    put_text(draw, (width - _MARGIN - text_width(model, 24), 79), model, 24, GREY)
    # Where letters are missing or back to front, the sheet says by the file's content whose it is.
    told = "" if is_drawn_as_written(result.slide_id) or not result.sha256 else f"SHA-256 {result.sha256[:16]}… · "
    slide = shortened(f"Slide {told}{result.slide_id}", 24, room - text_width(model, 24) - 40)
    put_text(draw, (_MARGIN, 79), slide, 24, GREY)


def _overview(prediction: SlidePrediction) -> Overview:
    if prediction.overview is None:
        raise ValueError(f"slide {prediction.result.slide_id} has no overview to draw on")
    return prediction.overview
