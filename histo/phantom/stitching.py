"""Scanned stripes that were put together a few pixels off: picture and truth move alike."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from histo.phantom.artefacts import Artefacts
from histo.phantom.noise import Window, hashed

MOST_PX = 3
Pixels = TypeVar("Pixels", bound=np.generic)


def offsets_px(artefacts: Artefacts, first: int, count: int) -> NDArray[np.int64]:
    """Return by how many px each line of level-0 px is moved along its stripe: every other stripe, by 1 to 3 px."""
    if artefacts.stripes is None or not artefacts.offset_px:
        return np.zeros(count, np.int64)
    number = np.floor(np.arange(first, first + count) / int(artefacts.stripes[0])).astype(np.int64)
    luck = hashed(artefacts.seed + 9, number, np.zeros(1, np.int64))[:, 0]
    size = 1 + np.floor(2 * artefacts.offset_px * luck).astype(np.int64) // 2
    sign = np.where(np.floor(2 * artefacts.offset_px * luck).astype(np.int64) % 2, 1, -1)
    return np.asarray(np.where(number % 2, size * sign, 0), np.int64)


def stitched(picture: NDArray[Pixels], artefacts: Artefacts, inner: Window, outer: Window) -> NDArray[Pixels]:
    """Cut a rectangle out of a picture (h, w) or (h, w, 3) that covers `outer`, its stripes moved along themselves."""
    if artefacts.stripes is None or not artefacts.offset_px:
        return picture[inner.within(outer)]
    rows = np.arange(inner.y - outer.y, inner.y - outer.y + inner.h)[:, None]
    columns = np.arange(inner.x - outer.x, inner.x - outer.x + inner.w)[None, :]
    if artefacts.stripes[2]:
        rows = rows + offsets_px(artefacts, inner.x, inner.w)[None, :]
    else:
        columns = columns + offsets_px(artefacts, inner.y, inner.h)[:, None]
    moved: NDArray[Pixels] = picture[rows, columns]
    return moved
