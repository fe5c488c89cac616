"""Which levels of a file show the field of level 0: a converter may pad reduced levels to whole blocks.

OpenSlide takes the ratio of the sizes for the reduction, and would give another place on the slide there.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

ROUNDING_PX = 2  # by which the size of a reduced level may differ from the exact one
MOST_FINER_PX = 1024  # side of what is read of the finer level
PATCH_PX, PLACES = 64, (0.35, 0.5, 0.65, 0.8, 0.95)  # what is compared, and where along either side
LEAST_SPREAD = 4.0  # standard deviation of grey levels in a patch that shows something
SAME_PLACE = 0.5  # correlation of a patch with the same place on another level

Size = tuple[int, int]
# Corner (level-0 px), level and size to a grey picture (h, w); None where it cannot be read.
Look = Callable[[Size, int, Size], NDArray[np.uint8] | None]


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
    finer = sizes[level - 1][0] / part[0]
    side = max(1, min(PATCH_PX, *part, int(MOST_FINER_PX / finer)))
    corners = [
        (round((width - side * down) * right), round((height - side * down) * below))
        for right in PLACES
        for below in PLACES
    ]
    patches = [(p, corner) for corner in corners if (p := look(corner, level, (side, side))) is not None]
    here, corner = max(patches, key=lambda patch: float(patch[0].std()), default=(None, (0, 0)))
    if here is None or float(here.std()) < LEAST_SPREAD:
        return True
    there = look(corner, level - 1, (round(side * finer), round(side * finer)))
    if there is None:
        return True
    there = np.asarray(cv2.resize(there, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    # Levels may lie a pixel or two beside one another.
    one, other = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), 2).ravel() for p in (here, there))
    # Nothing at all where the other level shows something is another place.
    return bool(other.std() > 0 and np.corrcoef(one, other)[0, 1] > SAME_PLACE)
