"""Text and scale bars on pictures."""

import unicodedata
from functools import cache
from importlib.util import find_spec
from math import floor, log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from histo.export.colour import Colour
from histo.wording import printable

INK: Colour = (28, 32, 38)
GREY: Colour = (96, 104, 114)
PAPER: Colour = (255, 255, 255)
WARNING: Colour = (150, 30, 30)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size_px: int) -> Font:
    """Return DejaVu Sans, which reads in most alphabets, or else the plainer font of Pillow.

    It comes with matplotlib, which is found here but not imported: that would take longer than drawing.
    """
    found = find_spec("matplotlib")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, round(size_px * 0.9), layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size_px)


def text_width(text: str, size_px: int) -> int:
    """Return the width of a text in px."""
    return int(font(size_px).getlength(printable(text)) + 0.999)


def put_text(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size_px: int, colour: Colour = INK, halo_px: int = 0
) -> None:
    """Draw a text from its top-left corner; with `halo_px` on a white edge, so that it reads on any tissue."""
    draw.text(xy, printable(text), font=font(size_px), fill=colour, stroke_width=halo_px, stroke_fill=PAPER)


def is_drawn_as_written(text: str) -> bool:
    """Tell whether the font has every character of a text, and none is of a script that runs from right to left."""
    missing = bytes(font(20).getmask("\U0010ffff"))
    return all(
        c.isascii() or (unicodedata.bidirectional(c) not in ("R", "AL") and bytes(font(20).getmask(c)) != missing)
        for c in printable(text)
    )


def shortened(text: str, size_px: int, room_px: int) -> str:
    """Return the text, or as much of its beginning and end as fits in `room_px`."""
    text = printable(text)
    keep = len(text)
    while keep > 4 and text_width(_cut(text, keep), size_px) > room_px:
        keep -= 1
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    return text if keep >= len(text) else f"{text[: keep - keep // 3]}…{text[len(text) - keep // 3 :]}"


def round_length(longest: float) -> float:
    """Return the greatest of 1, 2 or 5 times a power of ten that is not longer than `longest`.

    >>> round_length(7.3), round_length(0.3), round_length(1.0)
    (5.0, 0.2, 1.0)
    """
    power = 10.0 ** floor(log10(longest) + 1e-9)
    best = max((k for k in (1, 2, 5) if k * power <= longest * (1 + 1e-9)), default=1)
    return float(f"{best * power:.6g}")


def put_scale_bar(
    picture: Image.Image, px_per_unit: float, unit: str, longest_share: float = 0.25, size_px: int = 26
) -> float:
    """Draw a scale bar of a round length on the picture's lower left and return that length in units.

    It stands on a white plate, so that it reads on any tissue.
    """
    length = round_length(picture.width * longest_share / px_per_unit)
    bar_px = length * px_per_unit
    label = f"{length:g} {unit}"
    pad = max(3, size_px // 3)
    thick = max(2, size_px // 6)
    plate_w = max(bar_px, text_width(label, size_px)) + 2 * pad
    plate_h = size_px + thick + 2 * pad
    left, top = pad, picture.height - plate_h - pad
    plate = Image.new("L", (int(plate_w), int(plate_h)), 225)
    picture.paste(PAPER, (int(left), int(top)), plate)
    draw = ImageDraw.Draw(picture)
    put_text(draw, (left + pad, top + pad * 0.6), label, size_px)
    y = top + plate_h - pad - thick
    draw.rectangle((left + pad, y, left + pad + round(bar_px) - 1, y + thick - 1), fill=INK)
    return length
