"""All disturbances by name, and a disturbed slide written as the phantom writer writes one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from histo.data.slide import MAX_READ_PX, open_slide
from histo.errors import UsageError
from histo.files import whole
from histo.phantom.pyramid import write_slide
from histo.phantom.recipe import Stain
from histo.stress import colour, matter, optics
from histo.stress.picture import Picture

Disturbance = Callable[..., Picture]
VERSION: Final = 2  # raised when the same name and numbers give other pixels
CLEAN: Final = "clean"

DISTURBANCES: Final[Mapping[str, Disturbance]] = {
    function.__name__: function
    for function in (
        optics.clean, optics.jpeg, optics.blur, optics.noise, optics.turn, optics.rotate, optics.rescale,
        optics.wrong_scale, optics.offset, colour.stain_gain, colour.stain_angle, colour.stain_swap, colour.gray,
        colour.colour_only, colour.hue_rotate, colour.exposure, colour.scanner, matter.pen, matter.glass,
        matter.edge_cut, matter.crumb, matter.white_holes, matter.unseen,
    )
}  # fmt: skip


def read_picture(path: Path, stain: Stain) -> Picture:
    """Read level 0 of a slide; it is held in memory. Raises `SlideError` as `open_slide` does."""
    with open_slide(path) as slide:
        pyramid = slide.pyramid
        width, height = pyramid.size_level0_px
        rows = max(1, MAX_READ_PX // width)
        strips = [slide.read((0, y), 0, (width, min(rows, height - y))) for y in range(0, height, rows)]
    rgb = np.concatenate(strips) if len(strips) > 1 else strips[0]
    return Picture(rgb, pyramid.mpp_x, stain, pyramid.mpp_x)


def disturb(picture: Picture, name: str, numbers: Mapping[str, Any], seed: str) -> Picture:
    """Return the disturbed picture; equal arguments give equal pixels.

    Raises `UsageError` for an unknown disturbance.
    """
    if name not in DISTURBANCES:
        raise UsageError(f"unknown disturbance {name!r}; choose one of {', '.join(DISTURBANCES)}")
    told = json.dumps([seed, name, sorted(numbers.items())])
    rng = np.random.default_rng(int(hashlib.sha256(told.encode()).hexdigest()[:15], 16))
    return DISTURBANCES[name](picture, rng, **numbers)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture as a tiled pyramid, JPEG unless it must be exact; whole or not at all."""
    with whole(path) as temporary:
        write_slide(temporary, picture.rgb, picture.recorded_mpp, picture.quality)


def cut_out(picture: Picture, side_px: int) -> Picture:
    """Return the middle of a picture, at most `side_px` on a side."""
    height, width = picture.rgb.shape[:2]
    top, left = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    return replace(picture, rgb=picture.rgb[top : top + side_px, left : left + side_px])
