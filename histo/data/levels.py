"""Which levels of a file show the field of level 0: a converter may pad reduced levels to whole blocks.

OpenSlide takes the ratio of sizes as the downsample, and on a padded level would read the wrong place.
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


def true_levels(sizes_read_px: Sequence[Size], blocks_px: Sequence[Size], look: Look) -> int:
    """Return how many levels in a row show the field of level 0; `blocks_px` are what each is stored in, or (0, 0).

    Sizes tell of padding where level 0 itself is no multiple of whole blocks. Where it is one, pictures are compared.
    """
    for level in range(1, len(sizes_read_px)):
        sides = list(zip(sizes_read_px[0], sizes_read_px[level], blocks_px[level], strict=True))
        down = max(1, round(sum(whole / part for whole, part, _ in sides) / 2))
        in_blocks = [(whole, part, whole % block) for whole, part, block in sides if block and part % block == 0]
        if any(rest and abs(whole / down - part) > ROUNDING_PX for whole, part, rest in in_blocks):
            return level
        sizes_tell = len(in_blocks) < len(sides) or any(rest for _, _, rest in in_blocks)
        if not sizes_tell and not _shows_the_same(level, sizes_read_px, look):
            return level
    return len(sizes_read_px)


def _shows_the_same(level: int, sizes_read_px: Sequence[Size], look: Look) -> bool:
    """Compare a level with the one before it, at the place where it shows most; True where nothing can be told."""
    (width, height), (part, _) = sizes_read_px[0], sizes_read_px[level]
    down, finer = width / part, sizes_read_px[level - 1][0] / part
    side = max(1, min(PATCH_PX, *sizes_read_px[level], int(MOST_FINER_PX / finer)))
    corners_level0_px = [
        (round((width - side * down) * right), round((height - side * down) * below))
        for right in PLACES
        for below in PLACES
    ]
    patches = [(p, xy) for xy in corners_level0_px if (p := look(xy, level, (side, side))) is not None]
    here, xy_level0_px = max(patches, key=lambda patch: float(patch[0].std()), default=(None, (0, 0)))
    if here is None or float(here.std()) < LEAST_SPREAD:
        return True
    there = look(xy_level0_px, level - 1, (round(side * finer),) * 2)
    if there is None:
        return True
    there = np.asarray(cv2.resize(there, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    # Levels may lie a pixel or two beside one another.
    one, other = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), 2).ravel() for p in (here, there))
    # Nothing at all where the other level shows something is another place.
    return bool(other.std() > 0 and np.corrcoef(one, other)[0, 1] > SAME_PLACE)
