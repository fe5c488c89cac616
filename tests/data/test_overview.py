"""The overview: exact averages of the scanned area, bounded reads, and what is lost is said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data import overview as overview_module
from histo.data.overview import MAX_OVERVIEW_PX, OVERVIEW_MPP, _lattice, read_overview
from histo.data.slide import MAX_READ_PX, Slide, open_slide
from histo.errors import SlideFailed
from histo.geometry import Pyramid

Rgb = NDArray[np.uint8]
Writer = Callable[..., Path]
GARBAGE = b"\xff\xd8\xff\xe0" + b"garbage" * 20


@pytest.fixture(scope="module")
def picture() -> Rgb:
    y, x = np.mgrid[0:1536, 0:2048]
    return np.stack([x / 16 + 60, y / 12 + 60, (x + y) / 32 + 60], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, write_tiff: Writer, picture: Rgb) -> Path:
    return write_tiff(tmp_path_factory.mktemp("overview") / "a.svs", [picture])


def means(picture: Rgb, k: int) -> NDArray[np.float64]:
    height, width = picture.shape[0] // k * k, picture.shape[1] // k * k
    return picture[:height, :width].reshape(height // k, k, width // k, k, 3).mean(axis=(1, 3))


def test_pixels_are_averages_over_their_cells(path: Path, picture: Rgb) -> None:
    with open_slide(path) as slide:
        overview, lost = read_overview(slide)
    assert overview.grid.cell_um == (OVERVIEW_MPP, OVERVIEW_MPP)
    assert overview.rgb.shape == (96, 128, 3)
    assert not lost.any()
    assert np.abs(overview.rgb - means(picture, 16)).max() <= 2


def test_blocks_meet_without_a_seam(path: Path, picture: Rgb, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(path) as slide:
        at_once, _ = read_overview(slide)
        monkeypatch.setattr(overview_module, "_BLOCK_READ_PX", 300)
        in_blocks, _ = read_overview(slide)
    assert (at_once.rgb == in_blocks.rgb).all()


def test_a_coarser_level_is_read_where_there_is_one(
    tmp_path: Path, write_tiff: Writer, picture: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = [picture, *(means(picture, k).round().astype(np.uint8) for k in (4, 16))]
    with open_slide(write_tiff(tmp_path / "a.svs", levels)) as slide:
        asked = []
        read = slide.read_with_opacity
        monkeypatch.setattr(
            slide, "read_with_opacity", lambda xy, level, size: asked.append(level) or read(xy, level, size)
        )
        overview, _ = read_overview(slide)
    assert asked == [2]
    # JPEG bleeds where the picture ends inside a tile.
    assert np.abs(overview.rgb - means(picture, 16))[2:-2, 2:-2].max() <= 4


def test_it_shows_the_scanned_bounds_alone(path: Path, picture: Rgb) -> None:
    slide = open_slide(path)
    pyramid = replace(slide.pyramid, bounds_level0_px=(160, 320, 1000, 800))
    overview, _ = read_overview(Slide(path, pyramid, (255, 255, 255)))
    assert overview.grid.origin_level0_px == (160, 320)
    assert overview.rgb.shape == (50, 63, 3)
    assert np.abs(overview.rgb[:, :62] - means(picture[320:1120, 160:1152], 16)).max() <= 2


def test_a_damaged_part_is_marked_lost_and_white(
    tmp_path: Path, write_tiff: Writer, picture: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_module, "_BLOCK_READ_PX", 256)
    damaged = write_tiff(tmp_path / "a.svs", [picture], faults={9: GARBAGE})
    with open_slide(damaged) as slide:
        overview, lost = read_overview(slide)
    assert lost.sum() == 16 * 16
    assert lost[16:32, 16:32].all()
    assert (overview.rgb[lost] == 255).all()
    wanted = means(picture, 16)
    assert np.abs(overview.rgb - wanted)[~lost].max() <= 2


def test_a_corrupt_tile_takes_little_more_than_itself_from_the_overview(
    tmp_path: Path, write_tiff: Writer, picture: Rgb
) -> None:
    """What is lost counts as unreadable tissue, of which 5 % fail the slide."""
    damaged = write_tiff(tmp_path / "a.svs", [picture], faults={9: GARBAGE})
    with open_slide(damaged) as slide:
        overview, lost = read_overview(slide)
    assert lost[16:32, 16:32].all()
    assert lost.sum() <= 3 * 16 * 16
    assert np.abs(overview.rgb - means(picture, 16))[~lost].max() <= 2


def test_a_damaged_cell_larger_than_the_smallest_read_is_not_read_for_ever(
    tmp_path: Path, write_tiff: Writer, picture: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 0.05 µm/px one cell of the overview is 160 px wide: such a block has no quarters."""
    damaged = write_tiff(tmp_path / "a.svs", [picture], faults={9: GARBAGE, 30: GARBAGE})
    with open_slide(damaged, mpp=0.05) as slide:
        reads = []
        read = slide.read_with_opacity
        monkeypatch.setattr(
            slide, "read_with_opacity", lambda xy, level, size: reads.append((xy, size)) or read(xy, level, size)
        )
        _, lost = read_overview(slide)
    assert 0 < lost.sum() <= 2 * 9
    assert len(reads) == len(set(reads))


def test_a_slide_of_which_nothing_can_be_read_fails(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    damaged = write_tiff(tmp_path / "a.svs", [picture], faults=dict.fromkeys(range(48), GARBAGE))
    with open_slide(damaged) as slide, pytest.raises(SlideFailed, match="no part of it can be read") as caught:
        read_overview(slide)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("size", [(1, 1), (257, 1), (1, 300), (15, 15)])
def test_tiny_slides_have_an_overview(size: tuple[int, int], tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    tiny = write_tiff(tmp_path / "a.svs", [np.ascontiguousarray(picture[: size[1], : size[0]])])
    with open_slide(tiny) as slide:
        overview, lost = read_overview(slide)
    assert overview.rgb.shape[:2] == lost.shape == overview.grid.shape


@pytest.mark.parametrize("size", [(100_000, 100_000), (1_000_000, 900_000), (20_000_000, 3)])
@pytest.mark.parametrize("mpp", [0.05, 0.25, 5.0])
@pytest.mark.parametrize("downsamples", [(1.0,), (1.0, 4.0, 16.0, 64.0), (1.0, 3.0, 7.1)])
def test_the_overview_and_its_reads_are_bounded_however_large_the_slide(
    size: tuple[int, int], mpp: float, downsamples: tuple[float, ...]
) -> None:
    pyramid = Pyramid(size, downsamples, mpp, mpp, "recorded", (0, 0, *size))
    level, k, grid = _lattice(pyramid, OVERVIEW_MPP)
    assert grid.shape[0] * grid.shape[1] <= 2.5 * MAX_OVERVIEW_PX
    step = max(1, overview_module._BLOCK_READ_PX // k)
    assert (step * k) ** 2 <= MAX_READ_PX
    assert grid.cell_level0_px == (downsamples[level] * k,) * 2


def test_a_slide_coarser_than_the_overview_is_read_as_it_is() -> None:
    pyramid = Pyramid((500, 400), (1.0,), 5.0, 5.0, "recorded", (0, 0, 500, 400))
    level, k, grid = _lattice(pyramid, 2.0)
    assert (level, k, grid.shape) == (0, 1, (400, 500))
