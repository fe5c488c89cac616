"""Label maps: outlines become area fractions per map cell, with a weight that leaves out what nobody annotated."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from histo.data.annotations import IGNORE
from histo.geometry import MapGrid
from histo.outlines import Outline, Stencil, paint

IGNORED = 255


def draw_labels(
    outlines: Mapping[str, Iterable[Outline | Stencil]], classes: Sequence[str], grid: MapGrid, unannotated: int
) -> NDArray[np.uint8]:
    """Draw class indices (H, W) on a lattice; `classes` in order of precedence after the normal one at index 0.

    Where nobody drew, cells get `unannotated` (0 for normal or `IGNORED`).
    """
    canvas = np.full(grid.shape, unannotated, np.uint8)
    names = list(classes)
    # Lower precedence first, so that bone drawn over calcium is bone.
    for index in [0, *range(len(names) - 1, 0, -1)]:
        paint(canvas, outlines.get(names[index], []), grid, index)
    paint(canvas, outlines.get(IGNORE, []), grid, IGNORED)
    return canvas


def to_fractions(
    labels: NDArray[np.uint8], classes: int, stride_px: int, margin_cells: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn tile labels (S, S) into class fractions (C, h, w) and weights (h, w), the annotated share of each cell.

    The weights of the margin are zero: a network is not taught what inference throws away.

    >>> fractions, weights = to_fractions(np.array([[1, 0], [255, 0]], np.uint8), 2, 2)
    >>> [round(float(f), 3) for f in fractions[:, 0, 0]], weights.tolist()
    ([0.667, 0.333], [[0.75]])
    """
    side = labels.shape[0] // stride_px
    rows = labels.reshape(side, stride_px, -1)
    # Whole rows first: sums over long stretches are many times faster than over the pixels of a cell.
    columns = [(rows == c).sum(axis=1, dtype=np.uint16).reshape(side, side, stride_px) for c in range(classes)]
    areas = (np.stack([c.sum(axis=2) for c in columns]) / stride_px**2).astype(np.float32)
    weights = areas.sum(axis=0)
    inner = np.zeros_like(weights)
    inside = slice(margin_cells, side - margin_cells)
    inner[inside, inside] = weights[inside, inside]
    return areas / np.maximum(weights, 1e-6), inner
