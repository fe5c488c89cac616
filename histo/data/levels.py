"""Which levels of a file show the field of level 0: a converter may pad reduced levels to whole blocks.

OpenSlide takes the ratio of the sizes for the reduction, and would give another place on the slide there.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

ROUNDING_PX = 2  # by which the size of a reduced level may differ from the exact one
PATCH_PX, PLACES = 64, (0.35, 0.5, 0.65, 0.8, 0.95)  # what is compared, and where along either side
LEAST_SPREAD = 4.0  # standard deviation of grey levels in a patch that shows something
SAME_PLACE = 0.5  # correlation of a patch with the same place on another level

Size = tuple[int, int]
# Corner (level-0 px), level and size to a grey picture (h, w), of one colour where it cannot be read.
Look = Callable[[Size, int, Size], NDArray[np.uint8]]


def true_levels(sizes: Sequence[Size], blocks: Sequence[Size], look: Look) -> int:
    """Return how many levels in a row show the field of level 0; `blocks` are those that each is stored in, or (0, 0).

    Sizes tell of padding where level 0 itself is no multiple of whole blocks. Where it is one, pictures are compared.
    """
    for level in range(1, len(sizes)):
        sides = list(zip(sizes[0], sizes[level], blocks[level], strict=True))
        down = max(1, round(sum(whole / part for whole, part, _ in sides) / 2))
        padded = [(whole, part, whole % block) for whole, part, block in sides if block and part % block == 0]
        if any(rest and abs(whole / down - part) > ROUNDING_PX for whole, part, rest in padded):
            return level
        if len(padded) == 2 and not any(rest for _, _, rest in padded) and not _shows_the_same(level, sizes, look):
            return level
    return len(sizes)


def _shows_the_same(level: int, sizes: Sequence[Size], look: Look) -> bool:
    """Compare a level with the one before it, at the place where it shows most; True where nothing can be told."""
    (width, height), part = sizes[0], sizes[level]
    down = width / part[0]
    side = min(PATCH_PX, *part)
    corners = [
        (round((width - side * down) * right), round((height - side * down) * below))
        for right in PLACES
        for below in PLACES
    ]
    patches = [look(corner, level, (side, side)) for corner in corners]
    best = int(np.argmax([float(p.std()) for p in patches]))
    if float(patches[best].std()) < LEAST_SPREAD:
        return True
    finer = round(side * down * sizes[level - 1][0] / width)
    there = cv2.resize(look(corners[best], level - 1, (finer, finer)), (side, side), interpolation=cv2.INTER_AREA)
    # Levels may lie a pixel or two beside one another.
    one, other = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), 2).ravel() for p in (patches[best], there))
    return other.std() == 0 or bool(np.corrcoef(one, other)[0, 1] > SAME_PLACE)
