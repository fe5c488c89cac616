"""The strip under the overlay: colour bars, marks of unscored tissue, the notice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from histo.export.colour import Colour, colour_bar
from histo.export.layers import EXCLUDED, SCREENED, UNREADABLE, dot, hatch
from histo.export.lettering import GREY, PAPER, WARNING, put_scale_bar, put_text, shortened, text_width
from histo.results import SlidePrediction
from histo.wording import pretty

BAR_PX = 200, 18
SCALE_NOTE = (
    "Colour: probability of a map cell, not of a finding; one scale for all slides; below 0.1 only tissue shows."
)
_SIZE, _SMALL = 24, 20
_ROW = 92
_NOTES = 76


@dataclass(frozen=True)
class Swatch:
    """A kind of tissue that was not scored, as it is marked on the picture."""

    label: str
    colour: Colour
    crossed: bool = False
    dotted: bool = False

    def picture(self, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """Return a piece of the marking (H, W, 3)."""
        paper = np.full((height_px, width_px, 3), 235, np.uint8)
        everywhere = np.ones((height_px, width_px), bool)
        return (
            dot(paper, everywhere, self.colour) if self.dotted else hatch(paper, everywhere, self.colour, self.crossed)
        )


def swatches(prediction: SlidePrediction) -> list[Swatch]:
    """Return the markings that this slide's picture holds."""
    areas = prediction.result.areas
    if prediction.slide_map is None or areas is None:
        return []
    unreadable = [Swatch("Could not be read", UNREADABLE)] if areas.unreadable_mm2 > 0 else []
    excluded = [Swatch("Left out (ink)", EXCLUDED, crossed=True)] if areas.excluded_mm2 > 0 else []
    screened = [Swatch("Coarse look only (screened)", SCREENED, dotted=True)] if areas.screened_mm2 > 0 else []
    return unreadable + excluded + screened


def render_legend(prediction: SlidePrediction, width_px: int, px_per_mm: float | None = None) -> Image.Image:
    """Return the strip, `width_px` wide and as high as it needs; with `px_per_mm` it holds a scale bar too."""
    items = [_bar(pretty(c.name), c.colour) for c in prediction.result.model.classes]
    items += [_marking(s) for s in swatches(prediction)]
    if px_per_mm:
        items.append(_scale(px_per_mm))
    places, x, row = [], 0, 0
    for item in items:
        if x and x + item.width > width_px:
            x, row = 0, row + 1
        places.append((x, row * _ROW))
        x += item.width + 48
    top = (row + 1) * _ROW
    strip = Image.new("RGB", (width_px, top + _NOTES), PAPER)
    for item, place in zip(items, places, strict=True):
        strip.paste(item, place)
    draw = ImageDraw.Draw(strip)
    put_text(draw, (0, top + 4), shortened(SCALE_NOTE, _SMALL, width_px), _SMALL, GREY)
    put_text(draw, (0, top + 36), prediction.result.research_use, 22, WARNING)
    return strip


def _bar(label: str, colour: Colour) -> Image.Image:
    width, height = BAR_PX
    label = shortened(label, _SIZE, 400)
    item = Image.new("RGB", (max(width + 2, text_width(label, _SIZE)), _ROW), PAPER)
    draw = ImageDraw.Draw(item)
    put_text(draw, (0, 0), label, _SIZE)
    top = _SIZE + 12
    draw.rectangle((0, top - 1, width + 1, top + height), outline=GREY)
    item.paste(Image.fromarray(colour_bar(colour, width, height)), (1, top))
    for text, share in (("0", 0.0), ("0.5", 0.5), ("1", 1.0)):
        at = 1 + share * (width - text_width(text, _SMALL))
        put_text(draw, (at, top + height + 4), text, _SMALL, GREY)
    return item


def _marking(swatch: Swatch) -> Image.Image:
    width, height = 44, BAR_PX[1]
    item = Image.new("RGB", (width + 12 + text_width(swatch.label, _SIZE), _ROW), PAPER)
    top = _SIZE + 12
    item.paste(Image.fromarray(swatch.picture(width, height)), (0, top))
    put_text(ImageDraw.Draw(item), (width + 12, top - 6), swatch.label, _SIZE)
    return item


def _scale(px_per_mm: float) -> Image.Image:
    item = Image.new("RGB", (260, _ROW), PAPER)
    put_scale_bar(item, px_per_mm, "mm", longest_share=0.85, size_px=_SIZE)
    return item
