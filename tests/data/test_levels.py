"""Levels whose places are not those of level 0 would show tissue beside itself."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data.levels import Look, Size, true_levels

SIDE, BLOCK = 1500, 256


def pyramid(downs: list[int], padded: bool, whole: bool) -> tuple[list[Size], Look]:
    """Return the sizes of the levels of a textured square and what OpenSlide would show; levels may be padded.

    With `whole` level 0 ends with a block.
    """
    side = 6 * BLOCK if whole else SIDE
    noise = np.random.default_rng(0).normal(0, 1, (side, side)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 12)
    picture = np.clip(128 + blurred / blurred.std() * 50, 0, 255).astype(np.uint8)
    picture[SIDE:], picture[:, SIDE:] = 240, 240
    levels = []
    for down in downs:
        pads = padded and down > 1
        end = SIDE - SIDE % down if pads else side
        level = picture[:end:down, :end:down]
        room = -(-len(level) // BLOCK) * BLOCK if pads else 0
        levels.append(np.pad(level, [(0, max(0, room - n)) for n in level.shape], constant_values=240))

    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        ratio = levels[level].shape[0] / side
        x, y = (round(v * ratio) for v in corner)
        return levels[level][y : y + size[1], x : x + size[0]]

    return [(a.shape[1], a.shape[0]) for a in levels], look


def check(downs: list[int], padded: bool, whole: bool) -> int:
    sizes, look = pyramid(downs, padded, whole)
    return true_levels(sizes, [(BLOCK, BLOCK)] * len(sizes), look)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("downs", [[1, 2, 4], [1, 3], [1, 6], [1]])
def test_levels_that_show_the_whole_field_are_used(downs: list[int], whole: bool) -> None:
    assert check(downs, padded=False, whole=whole) == len(downs)


def test_a_padded_level_is_told_by_its_size() -> None:
    assert check([1, 2, 4], padded=True, whole=False) == 1


def test_a_padded_level_is_told_by_what_it_shows_where_level_0_is_padded_too() -> None:
    """Regression: with all levels padded the sizes agree, and tissue was looked for beside itself without a word."""
    sizes, look = pyramid([1, 2, 8], padded=True, whole=True)
    assert sizes == [(1536, 1536), (768, 768), (256, 256)]  # as if reduced by 6
    assert true_levels(sizes, [(BLOCK, BLOCK)] * 3, look) == 2


def test_a_place_that_is_bare_on_the_finer_level_is_another_place() -> None:
    """Regression: that was taken for a picture that cannot be told, and the padded level was used."""
    sizes = [(1536, 1536), (256, 256)]

    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        picture = np.full(size[::-1], 255, np.uint8)
        if level:
            picture[::2] = 90
        return picture

    assert true_levels(sizes, [(BLOCK, BLOCK)] * 2, look) == 1


def test_a_patch_of_the_finer_level_stays_small() -> None:
    asked: list[Size] = []

    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        asked.append(size)
        return np.random.default_rng(0).integers(0, 255, size[::-1]).astype(np.uint8)

    true_levels([(65536, 65536), (256, 256)], [(BLOCK, BLOCK)] * 2, look)
    assert max(max(size) for size in asked) <= 1024


def test_levels_that_cannot_be_read_are_used() -> None:
    assert true_levels([(1024, 1024), (512, 512)], [(BLOCK, BLOCK)] * 2, lambda *place: None) == 2


def test_levels_of_which_nothing_can_be_seen_are_used() -> None:
    sizes = [(1024, 1024), (512, 512)]
    blank = lambda corner, level, size: np.zeros(size[::-1], np.uint8)  # noqa: E731
    assert true_levels(sizes, [(256, 256)] * 2, blank) == 2
    assert true_levels(sizes, [(0, 0)] * 2, blank) == 2


UNSEEN: Look = lambda corner, level, size: None  # noqa: E731


@pytest.mark.parametrize(
    ("sizes_read_px", "count"),
    [
        ([(1535, 1535), (768, 768)], 2),  # half of it, rounded up
        ([(1532, 1532), (768, 768)], 2),  # two pixels more than half
        ([(1530, 1530), (768, 768)], 1),  # three
        ([(1536, 1500), (768, 768)], 1),  # padded on one side
        ([(1536, 1500), (768, 750)], 2),
    ],
)
def test_a_level_is_padded_where_it_is_three_pixels_too_large_on_either_side(
    sizes_read_px: list[Size], count: int
) -> None:
    turned = [(height, width) for width, height in sizes_read_px]
    for sizes in (sizes_read_px, turned):
        assert true_levels(sizes, [(BLOCK, BLOCK)] * 2, UNSEEN) == count


def test_pictures_are_compared_only_where_neither_side_tells() -> None:
    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        raise AssertionError("looked")

    assert true_levels([(1536, 1500), (768, 750)], [(BLOCK, BLOCK)] * 2, look) == 2


def test_the_one_place_that_shows_something_is_compared_on_a_slide_of_any_shape() -> None:
    """It lies far down and to the left, in the coarser level alone: that one was padded."""
    sizes = [(1024, 4096), (256, 1024)]
    corners: list[Size] = []

    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        picture = np.full(size[::-1], 240, np.uint8)
        if level:
            corners.append(corner)
            picture[::2] = 90 if corner == (269, 3648) else 240
        return picture

    assert true_levels(sizes, [(BLOCK, BLOCK)] * 2, look) == 1
    # 1024 - 4 * 64 and 4096 - 4 * 64, times the places.
    assert {x for x, _ in corners} == {269, 384, 499, 614, 730}
    assert {y for _, y in corners} == {1344, 1920, 2496, 3072, 3648}


def test_every_level_is_compared_with_the_one_before_it_over_the_same_field() -> None:
    asked: set[tuple[int, Size]] = set()

    def look(corner: Size, level: int, size: Size) -> NDArray[np.uint8]:
        asked.add((level, size))
        return np.tile(np.linspace(0, 250, size[0]), (size[1], 1)).astype(np.uint8)

    assert true_levels([(3072, 3072), (1536, 1536), (512, 512)], [(BLOCK, BLOCK)] * 3, look) == 3
    assert asked == {(1, (64, 64)), (0, (128, 128)), (2, (64, 64)), (1, (192, 192))}
