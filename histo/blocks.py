"""The blocks that a file stores a level in: which of them lie in a window, and what of them is picture."""

import numpy as np
from numpy.typing import NDArray

_ROUNDING_PX = 1e-6


def whole_read_px(positions_level0_px: NDArray[np.int64], downsample: float) -> NDArray[np.int64] | None:
    """Return level-0 positions (N, 2) in pixels of a level, or None when one of them falls between its pixels.

    >>> whole_read_px(np.array([[8, -4]]), 4.0)
    array([[ 2, -1]])
    >>> whole_read_px(np.array([[8, 5]]), 4.0)
    """
    exact = np.asarray(positions_level0_px, float) / downsample
    nearest = np.floor(exact + 0.5)
    if np.abs(exact - nearest).max(initial=0) > _ROUNDING_PX:
        return None
    return nearest.astype(np.int64)


def blocks_under(
    corner_read_px: tuple[int, int], size_read_px: tuple[int, int], block_px: tuple[int, int], blocks: tuple[int, int]
) -> tuple[range, range]:
    """Return the rows and columns of a file's blocks (width, height `block_px`, `blocks` rows x columns) in a window.

    >>> blocks_under((250, -10), (20, 100), (256, 256), (4, 4))
    (range(0, 1), range(0, 2))
    """
    (x, y), (width, height), (bw, bh) = corner_read_px, size_read_px, block_px
    rows = range(max(y // bh, 0), min(-(-(y + height) // bh), blocks[0]))
    columns = range(max(x // bw, 0), min(-(-(x + width) // bw), blocks[1]))
    return rows, columns


def paste_block(
    canvas: NDArray[np.uint8], block: NDArray[np.uint8], offset_read_px: tuple[int, int], size_read_px: tuple[int, int]
) -> None:
    """Copy the part of a block that lies on a canvas (H, W, 3); the block's corner stands at `offset_read_px`.

    Only `size_read_px` (width, height) of the block is picture; the rest of a border block is filling.
    """
    (x, y), (width, height) = offset_read_px, size_read_px
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + height, canvas.shape[0]), min(x + width, canvas.shape[1])
    if top < bottom and left < right:
        canvas[top:bottom, left:right] = block[top - y : bottom - y, left - x : right - x]
