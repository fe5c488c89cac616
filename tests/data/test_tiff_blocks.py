"""The fast reader gives OpenSlide's very pixels, decodes a block once, and leaves what it cannot do to OpenSlide."""

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.data import tiff_blocks
from histo.data.slide import open_slide
from histo.data.tiff_blocks import TiffBlocks, open_blocks
from histo.data.tiles import TileDataset
from histo.errors import SlideFailed
from histo.geometry import TileGrid, TileSpec, lay_tiles, map_grid_for

pytest.importorskip("simplejpeg")

Rgb = NDArray[np.uint8]
GARBAGE = b"\xff\xd8\xff\xe0" + b"garbage" * 20
SPECS = (TileSpec(128, 1.0, 16, 16), TileSpec(192, 0.5, 16, 32), TileSpec(96, 1.3, 16, 0))


def grid_of(path: Path, spec: TileSpec, order: list[int] | None = None) -> TileGrid:
    with open_slide(path) as slide:
        grid, _ = map_grid_for(slide.pyramid, spec)
        tiles = lay_tiles(slide.pyramid, spec, np.ones(grid.shape, np.float32))
    if order is None:
        return tiles
    chosen = np.array(order) % len(tiles)
    return replace(
        tiles, positions_level0_px=tiles.positions_level0_px[chosen], cells_map_px=tiles.cells_map_px[chosen]
    )


@pytest.fixture(scope="module")
def two_levels(
    tmp_path_factory: pytest.TempPathFactory, write_tiff: Callable[..., Path], paint_slide: Callable[..., Rgb]
) -> Path:
    """Borders within a block, so that what fills the last blocks must be cut away."""
    image = paint_slide(1300, 900)
    half = cv2.resize(image, (650, 450), interpolation=cv2.INTER_AREA)
    return write_tiff(tmp_path_factory.mktemp("two") / "a.svs", [image, half])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 500), min_size=1, max_size=25), st.sampled_from(SPECS), st.integers(16, 400))
def test_any_tiles_in_any_order_equal_openslide_s(
    two_levels: Path, order: list[int], spec: TileSpec, most: int
) -> None:
    """Also with so little room that blocks are dropped before their last tile, and tiles named twice."""
    grid = grid_of(two_levels, spec, order)
    with open_slide(two_levels) as slide:
        blocks = open_blocks(slide, grid)
        assert blocks is not None
        blocks._kept._most = most
        with blocks, ThreadPoolExecutor(3) as pool:
            found = list(pool.map(TileDataset.of(blocks, grid).__getitem__, range(len(grid))))
            wanted = [slide.read_tile((x, y), grid.plan) for x, y in grid.positions_level0_px.tolist()]
            assert not blocks._kept._blocks, "nothing is kept after the last tile"
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_block_is_decoded_once(two_levels: Path) -> None:
    grid = grid_of(two_levels, SPECS[1])
    with open_slide(two_levels) as slide:
        blocks = open_blocks(slide, grid)
        assert blocks is not None
        decoded: list[int] = []
        block = blocks._block
        blocks._block = lambda number: (decoded.append(number), block(number))[1]  # type: ignore[method-assign]
        with blocks, ThreadPoolExecutor(3) as pool:
            list(pool.map(TileDataset.of(blocks, grid).__getitem__, range(len(grid))))
    assert len(grid) > 24
    assert sorted(decoded) == list(range(6 * 4))


@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped", "no end"])
def test_what_openslide_cannot_read_is_lost_and_nothing_else(
    damage: str, tmp_path: Path, write_tiff: Callable[..., Path], paint_slide: Callable[..., Rgb]
) -> None:
    """A decoder that goes on after a warning would turn damage into pixels: this one must not."""
    image = paint_slide(1024, 1024)
    good = cv2.imencode(".jpg", image[256:512, 256:512, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    middle = len(good) // 2
    bad = {
        "garbage": GARBAGE,
        "cut": good[:middle],
        "flipped": good[:900] + bytes([good[900] ^ 0x10]) + good[901:],
        "no end": good[:-2],
    }[damage]
    path = write_tiff(tmp_path / "a.svs", [image], faults={5: bad})
    grid = grid_of(path, SPECS[0])
    with open_slide(path) as slide:
        blocks = open_blocks(slide, grid)
        assert blocks is not None
        with blocks:
            fast, slow = TileDataset.of(blocks, grid), TileDataset.of(slide, grid)
            pairs = [(fast[i], slow[i]) for i in range(len(grid))]
    lost = sum(b is None for _, b in pairs)
    assert 0 < lost < len(grid)
    assert all((a is None) == (b is None) and (a is None or (a == b).all()) for a, b in pairs)


def test_a_missing_block_is_openslide_s_to_fill(
    tmp_path: Path, write_tiff: Callable[..., Path], paint_slide: Callable[..., Rgb], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tiff(tmp_path / "a.svs", [paint_slide(1024, 768)], faults={3: None})
    with caplog.at_level(logging.INFO), open_slide(path) as slide:
        assert open_blocks(slide, grid_of(path, SPECS[1])) is None
    assert "0 directories of JPEG blocks" in caplog.text


def test_another_decoder_s_pixels_are_not_taken(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import simplejpeg

    def off_by_one(stream: bytes, **options: object) -> Rgb:
        return decode(stream, **options) ^ 1  # type: ignore[no-any-return]

    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", off_by_one)
    with caplog.at_level(logging.INFO), open_slide(two_levels) as slide:
        assert open_blocks(slide, grid_of(two_levels, SPECS[0])) is None
    assert "gives other pixels at" in caplog.text


def test_an_odd_tag_leaves_the_slide_to_openslide(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Bug: tifffile raises anything at all on odd tags, the label's even, and a slide that OpenSlide reads failed.
    def odd(page: object, size: object) -> bool:
        raise TypeError("'<' not supported between instances of 'bytes' and 'int'")

    monkeypatch.setattr("histo.data.tiff_blocks._fits", odd)
    with caplog.at_level(logging.INFO), open_slide(two_levels) as slide:
        assert open_blocks(slide, grid_of(two_levels, SPECS[0])) is None
    assert "tifffile cannot read it ('<' not supported" in caplog.text


def test_without_the_extra_openslide_reads(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with caplog.at_level(logging.INFO), open_slide(two_levels) as slide:
        assert open_blocks(slide, grid_of(two_levels, SPECS[0])) is None
    assert "simplejpeg (extra fast) is not installed" in caplog.text


def test_tiles_between_the_level_s_pixels_are_openslide_s(
    tmp_path: Path, write_tiff: Callable[..., Path], paint_slide: Callable[..., Rgb], caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSlide interpolates there; a reader that rounds would give a picture a fraction of a pixel aside."""
    image = paint_slide(1300, 900)
    odd = cv2.resize(image, (601, 417), interpolation=cv2.INTER_AREA)
    path = write_tiff(tmp_path / "a.svs", [image, odd])
    with caplog.at_level(logging.INFO), open_slide(path) as slide:
        assert open_blocks(slide, grid_of(path, TileSpec(128, 1.08, 16, 16))) is None
    assert "fall between the pixels" in caplog.text


def test_other_formats_and_no_tiles_at_all(tmp_path: Path, two_levels: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid = grid_of(two_levels, SPECS[0])
    with caplog.at_level(logging.INFO), open_slide(two_levels) as slide:
        nothing = replace(grid, positions_level0_px=grid.positions_level0_px[:0], cells_map_px=grid.cells_map_px[:0])
        assert open_blocks(slide, nothing) is None, "without a tile to compare nothing is trusted"
        slide.vendor = "hamamatsu"
        assert open_blocks(slide, grid) is None
    assert "hamamatsu is not made of plain JPEG blocks" in caplog.text


def test_a_read_outside_the_plan_is_openslide_s(two_levels: Path) -> None:
    grid = grid_of(two_levels, SPECS[0])
    with open_slide(two_levels) as slide:
        blocks = open_blocks(slide, grid)
        assert isinstance(blocks, TiffBlocks)
        with blocks:
            other = grid_of(two_levels, SPECS[1]).plan
            np.testing.assert_array_equal(blocks.read_tile((3, 5), other), slide.read_tile((3, 5), other))
            np.testing.assert_array_equal(blocks.read_tile((3, 5), grid.plan), slide.read_tile((3, 5), grid.plan))


def test_an_error_of_the_decoder_reaches_every_thread_that_waits(two_levels: Path) -> None:
    kept = tiff_blocks._Kept(np.array([2]), 16)
    with pytest.raises(SlideFailed):
        kept.take(0, lambda number: (_ for _ in ()).throw(SlideFailed("unreadable", "planted")))
    with pytest.raises(SlideFailed):
        kept.take(0, lambda number: pytest.fail("decoded again"))
    kept.release([0])
    kept.release([0])
    assert not kept._blocks
