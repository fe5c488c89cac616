"""Label masks: a TIFF of class numbers over the whole slide, such as the truth beside a phantom.

`NAME.json` beside `NAME.mask.tif` may say which number is which (`mask_ids`) and which of them are lesions
(`components`); the others are look-alikes and artefacts, which are normal. Without it the words are `value 1` and
so on.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from histo.data.annotation_formats.drawn import Drawn
from histo.geometry import MapGrid, Pyramid
from histo.outlines import around

MAX_MASK_PX = 2**28


def read_mask(path: Path, pyramid: Pyramid) -> Iterator[Drawn]:
    """Yield the traced regions of every class in the mask.

    Raises `ValueError` for a file that is no mask, or whose shape is not that of the slide.
    """
    values = _read(path)
    grid = _lattice(values, pyramid)
    names = _names(path)
    present = [int(v) for v in np.flatnonzero(np.bincount(values.ravel(), minlength=1)) if v]
    for value in present:
        word = names.get(value) if names is not None else f"value {value}"
        if word is None:
            continue
        for count, outline in enumerate(_trace(values == value, grid), start=1):
            yield Drawn(f"region {count} of value {value}", (word,), (outline,))


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            problem = _unfit(page.ndim, page.size, str(page.dtype))
            values = None if problem else np.asarray(page.asarray())
    except Exception as error:  # a damaged file makes the decoders raise anything at all
        said = " ".join(str(error).split())[:80]
        raise ValueError(f"is a TIFF that cannot be read ({said or type(error).__name__}); write it again") from error
    if values is None:
        raise ValueError(problem)
    return np.asarray(values, np.uint8)


def _unfit(axes: int, cells: int, kind: str) -> str | None:
    if axes != 2 or kind != "uint8":
        return "is a picture and no mask of class numbers (one 8-bit channel); give the annotation"
    if cells > MAX_MASK_PX:
        return f"is a mask of {cells} cells, more than {MAX_MASK_PX}; write it coarser"
    return None


def _lattice(values: NDArray[np.uint8], pyramid: Pyramid) -> MapGrid:
    width, height = pyramid.size_level0_px
    rows, columns = values.shape
    cell = _reduction((columns, width), (rows, height))
    if cell is None:
        raise ValueError(f"has {columns} x {rows} cells, the slide {width} x {height} px; is it another slide's mask?")
    return MapGrid((0.0, 0.0), (cell, cell), values.shape, (cell * pyramid.mpp_x, cell * pyramid.mpp_y))


def _reduction(*sides: tuple[int, int]) -> int | None:
    """Return the whole reduction of sides (cells, px), whose last cells reach past the slide or stop short of it.

    Of several that fit, as for masks of few cells, it is the power of two, then the nearest to their quotient.
    """
    # floor(px / c) or ceil(px / c) cells: px / (cells + 1) < c < px / (cells - 1).
    least = max(px // (cells + 1) + 1 for cells, px in sides)
    most = min(-(-px // (cells - 1)) - 1 if cells > 1 else max(p for _, p in sides) for cells, px in sides)
    guess = max(px / cells for cells, px in sides)
    fitting = range(max(1, least), most + 1)
    return min(fitting, key=lambda c: (c & (c - 1) != 0, abs(c - guess)), default=None)


def _names(path: Path) -> dict[int, str] | None:
    beside = path.with_name(path.name.removesuffix(".tif").removesuffix(".mask") + ".json")
    try:
        record: Any = json.loads(beside.read_text(encoding="utf-8"))
        lesions = {c["class"] for c in record["components"]}
        return {int(value): str(name) for name, value in record["mask_ids"].items() if name in lesions}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _trace(inside: NDArray[np.bool_], grid: MapGrid) -> list[Any]:
    """Go round only what lies in the rectangle that holds the class: masks are mostly empty."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return around(part, grid.window(int(rows[0]), int(columns[0]), part.shape))
