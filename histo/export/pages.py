"""HTML pages from templates: everything escaped, nothing fetched, images inside the page."""

import base64
import hashlib
import io
import os
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from histo.export.words import label_words, length_words, share_of_one, share_words
from histo.results import SlideResult
from histo.wording import area_words, counted, pretty, printable, probability_words

_JPEG_QUALITY = 88


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {
        "pretty": pretty,
        "label": label_words,
        "probability": probability_words,
        "area": area_words,
        "length_mm": length_words,
        "share_of_one": share_of_one,
        "href": href,
        "counted": counted,
    }
    environment.globals |= {"share": share_words}
    return environment


def _shown(value: object) -> object:
    """Replace what no page can hold (half characters of broken file names) in every text that is shown."""
    return printable(value) if type(value) is str and not value.isprintable() else value


def render(template: str, /, **context: object) -> str:
    """Return the page of a template in `templates/`; names that it lacks are errors."""
    return _environment().get_template(template).render(**context)


def href(path: str) -> str:
    """Return a relative path as a link; file names keep their bytes, whatever these are."""
    return quote(os.fsencode(path))


def picture_uri(rgb: NDArray[np.uint8], form: Literal["JPEG", "PNG"] = "JPEG") -> str:
    """Return a picture (H, W, 3) as a data URI: JPEG for tissue, PNG for drawings."""
    buffer = io.BytesIO()
    # Without chroma subsampling the coloured outlines stay crisp.
    Image.fromarray(rgb).save(buffer, format=form, quality=_JPEG_QUALITY, subsampling=0)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def script_hash(script: str) -> str:
    """Return the token by which a content security policy allows this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def css_colour(colour: tuple[int, int, int]) -> str:
    """Return an RGB colour as CSS.

    >>> css_colour((255, 128, 0))
    '#ff8000'
    """
    return "#" + bytes(colour).hex()


def verdict_colour(result: SlideResult) -> str:
    """Return the colour that stands for a result: its verdict's first class, or one for its status."""
    if result.status in ("refused", "failed") or result.verdict is None:
        return "#6b7280"
    leading = [c.colour for c in result.model.classes if c.verdict == result.verdict.label]
    return css_colour(leading[0]) if leading else "#4a7d5c"
