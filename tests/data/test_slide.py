"""Opening and reading slides: every bad path has its own code, and a damaged tile costs that tile alone."""

import errno
import hashlib
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from histo.data import slide as slide_module
from histo.data.slide import Slide, companions_of, lacks_scale, open_slide
from histo.data.slide_file import (
    WHOLE_SLIDE,
    begins_as_tiff,
    check_regular_file,
    is_dicom_slide,
    sha256_of,
)
from histo.errors import SlideFailed, SlideRefused, UsageError
from histo.geometry import ReadPlan, Stage, plan_read

Rgb = NDArray[np.uint8]
Writer = Callable[..., Path]

TILE = 256
BAD = 5
GARBAGE = b"\xff\xd8\xff\xe0" + b"garbage" * 20


@pytest.fixture(scope="module")
def picture() -> Rgb:
    """A 4 x 4 tile picture of smooth colours, so that JPEG keeps it within a few grey levels."""
    y, x = np.mgrid[0 : 4 * TILE, 0 : 4 * TILE]
    return np.stack([x / 8 + 60, y / 8 + 60, (x + y) / 16 + 60], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_tiff: Writer, picture: Rgb) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "whole.svs", [picture])


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, write_tiff: Writer, picture: Rgb) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "damaged.svs", [picture], faults={BAD: GARBAGE})


def corner(tile: int) -> tuple[int, int]:
    return TILE * (tile % 4), TILE * (tile // 4)


def read_all(path: Path) -> Rgb:
    with open_slide(path) as slide:
        return slide.read((0, 0), 0, slide.pyramid.size_level0_px)


# Paths that are no slides


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(SlideFailed) as caught:
        open_slide(path)
    assert str(path) in str(caught.value)
    return caught.value.code, str(caught.value)


def test_each_bad_path_has_its_own_code_and_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.svs").mkdir()
    (tmp_path / "empty.svs").touch()
    (tmp_path / "text.svs").write_text("This is no slide.\n" * 100)
    os.mkfifo(tmp_path / "pipe.svs")
    (tmp_path / "dangling.svs").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.svs").symlink_to(tmp_path / "loop.svs")
    (tmp_path / "device.svs").symlink_to("/dev/zero")
    found = {
        name: refusal(tmp_path / f"{name}.svs")
        for name in ("missing", "folder", "empty", "text", "pipe", "dangling", "loop", "device")
    }
    assert {name: code for name, (code, _) in found.items()} == {
        "missing": "not_found",
        "folder": "not_a_file",
        "empty": "empty_file",
        "text": "unsupported",
        "pipe": "not_a_file",
        "dangling": "not_found",
        "loop": "not_found",
        "device": "not_a_file",
    }
    sentences = {message.replace(name, "") for name, (_, message) in found.items() if name in SENTENCES}
    assert len(sentences) == len(SENTENCES)


SENTENCES = ("missing", "folder", "empty", "text", "pipe")


@pytest.mark.parametrize("name", ["a\0b.svs", "a" * 300 + ".svs"], ids=["nul", "too-long"])
def test_a_name_that_no_file_can_have_is_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(SlideFailed) as caught:
        check_regular_file(tmp_path / name)
    assert caught.value.code == "not_found"


def test_a_share_that_fails_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    # Bug: "does not exist; check the path" of a mount that was down.
    def stale(self: Path, **_: object) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "stat", stale)
    with pytest.raises(SlideFailed, match="cannot be reached") as caught:
        check_regular_file(whole)
    assert caught.value.code == "unreadable"


def test_a_folder_that_may_not_be_entered_is_a_matter_of_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That no slide was found in it would be a guess."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SlideFailed, match="may not enter") as caught:
        check_regular_file(tmp_path)
    assert caught.value.code == "permission"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_file_of_another_user_is_a_matter_of_permission(tmp_path: Path) -> None:
    """Root may read everything, so a child that has given its rights up looks."""
    path = tmp_path / "closed.svs"
    path.write_bytes(b"x")
    path.chmod(0)
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:
        code = "none"
        try:
            os.setresuid(65534, 65534, 65534)
            check_regular_file(path)
        except SlideFailed as error:
            code = error.code
        finally:
            os.write(question, code.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(question)
    assert os.read(answer, 100) == b"permission"
    os.close(answer)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_without_read_permission_is_a_matter_of_permission(tmp_path: Path) -> None:
    path = tmp_path / "closed.svs"
    path.write_bytes(b"x")
    path.chmod(0)
    assert refusal(path)[0] == "permission"


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_a_truncated_slide_fails_when_it_is_opened(share: float, whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(path)[0] == "unsupported"


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_an_ordinary_picture_is_unsupported(name: str, tmp_path: Path, picture: Rgb) -> None:
    """OpenSlide's own open_slide would hand it to Pillow, bombs and all."""
    cv2.imwrite(str(tmp_path / name), picture)
    assert refusal(tmp_path / name)[0] == "unsupported"


@pytest.mark.parametrize("name", [b"n\xff\xfe.svs", b"-rf.svs", b"a\nb.svs", "µ😀.svs".encode(), b";$(touch x).svs"])
def test_names_of_any_bytes_open(name: bytes, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    os.link(whole, path)
    assert open_slide(path).pyramid.size_level0_px == (1024, 1024)


# Scale


@pytest.mark.parametrize("mpp", [None, "0", "-0.5", "inf", "nan", "1e-300", "1000", "250", "abc", "5.01"])
def test_a_slide_without_a_credible_scale_is_refused(
    mpp: str | None, tmp_path: Path, write_tiff: Writer, picture: Rgb
) -> None:
    text = "Aperio test |AppMag = 20" + (f"|MPP = {mpp}" if mpp else "")
    path = write_tiff(tmp_path / "a.svs", [picture[:TILE, :TILE]], description=text)
    with pytest.raises(SlideRefused, match="--mpp") as caught:
        open_slide(path)
    assert caught.value.code == "no_scale"


def test_an_impossible_recorded_scale_is_named(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    path = write_tiff(tmp_path / "a.svs", [picture[:TILE, :TILE]], description="Aperio test |MPP = 1000")
    with pytest.raises(SlideRefused, match="1000 x 1000 µm per pixel"):
        open_slide(path)


def test_a_decimal_comma_is_read(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    path = write_tiff(tmp_path / "a.svs", [picture[:TILE, :TILE]], description="Aperio test |MPP = 0,25")
    assert open_slide(path).pyramid.mpp_x == 0.25


def test_the_user_s_scale_goes_before_the_recorded_one_and_is_marked(whole: Path) -> None:
    recorded, given = open_slide(whole).pyramid, open_slide(whole, 0.3).pyramid
    assert (recorded.mpp_x, recorded.mpp_y, recorded.scale_source) == (0.5, 0.5, "recorded")
    assert (given.mpp_x, given.mpp_y, given.scale_source) == (0.3, 0.3, "user")


def test_the_user_s_scale_opens_a_slide_without_one(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    path = write_tiff(tmp_path / "a.svs", [picture[:TILE, :TILE]], description="Aperio test")
    assert open_slide(path, 0.5).pyramid.scale_source == "user"


@pytest.mark.parametrize("mpp", [0, -1, 0.04, 5.5, 250, float("inf"), float("nan")])
def test_an_impossible_scale_from_the_user_is_the_user_s_error(mpp: float, whole: Path) -> None:
    with pytest.raises(UsageError, match=r"--mpp .* 0\.05 to 5"):
        open_slide(whole, mpp)


# Bounds


@pytest.fixture
def with_properties(monkeypatch: pytest.MonkeyPatch, whole: Path) -> Callable[..., Slide]:
    """Open the whole slide as if its file recorded these properties too."""
    original = openslide.OpenSlide.properties.fget

    def open_with(**more: object) -> Slide:
        named = {f"openslide.{name.replace('_', '-')}": str(value) for name, value in more.items()}
        monkeypatch.setattr(openslide.OpenSlide, "properties", property(lambda self: dict(original(self)) | named))
        return open_slide(whole)

    return open_with


def test_a_property_whose_name_is_no_utf8_costs_nothing(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    # Bug: OpenSlide lists such a name and does not find it: the slide was lost, and the check of its manifest.
    plain = "Aperio made for a test |AppMag = 20|MPP = 0.5|Groesse = 3"
    path = write_tiff(tmp_path / "latin.svs", [picture], description=plain)
    path.write_bytes(path.read_bytes().replace(b"Groesse", b"Gr\xf6\xdfe  "))
    with open_slide(path) as slide:
        assert slide.pyramid.mpp_x == 0.5


def test_a_scale_that_is_no_number_is_no_recorded_one(with_properties: Callable[..., Slide], whole: Path) -> None:
    # Bug: a recorded inf could not be written down, so that --mpp, which is advised, ended in an internal error.
    with pytest.raises(SlideRefused, match="records no scale"):
        with_properties(mpp_x="inf", mpp_y="inf")
    with open_slide(whole, 0.5) as slide:
        assert slide.pyramid.recorded_mpp is None


@pytest.mark.parametrize(
    ("recorded", "bounds"),
    [
        ((100, 200, 300, 400), (100, 200, 300, 400)),
        ((0, 0, 1024, 1024), (0, 0, 1024, 1024)),
        ((900, 800, 500, 500), (900, 800, 124, 224)),
        ((-100, -50, 300, 400), (0, 0, 200, 350)),
        ((100, 200, 300, "abc"), (0, 0, 1024, 1024)),
        ((5000, 5000, 10, 10), (0, 0, 1024, 1024)),
        ((100, 100, 0, 0), (0, 0, 1024, 1024)),
        ((100, 100, -5, 30), (0, 0, 1024, 1024)),
    ],
    ids=["inside", "all", "reaches-out", "negative", "no-number", "outside", "empty", "negative-size"],
)
def test_the_scanner_s_bounds_are_read_and_cut_to_the_slide(
    recorded: tuple[object, ...], bounds: tuple[int, ...], with_properties: Callable[..., Slide]
) -> None:
    names = ("bounds_x", "bounds_y", "bounds_width", "bounds_height")
    slide = with_properties(**dict(zip(names, recorded, strict=True)))
    assert slide.pyramid.bounds_level0_px == bounds


def test_without_bounds_all_of_level_0_is_the_slide(whole: Path) -> None:
    assert open_slide(whole).pyramid.bounds_level0_px == (0, 0, 1024, 1024)


# Pixels


def test_pixels_are_those_that_were_written(whole: Path, picture: Rgb) -> None:
    assert np.abs(read_all(whole).astype(int) - picture).max() <= 6


def test_a_missing_tile_is_background_not_black(tmp_path: Path, write_tiff: Writer, picture: Rgb) -> None:
    path = write_tiff(tmp_path / "a.svs", [picture], faults={BAD: None})
    rgb = read_all(path)
    x, y = corner(BAD)
    assert (rgb[y : y + TILE, x : x + TILE] == 255).all()
    assert np.abs(rgb[:TILE].astype(int) - picture[:TILE]).max() <= 6


def test_transparent_pixels_take_the_recorded_background(with_properties: Callable[..., Slide]) -> None:
    slide = with_properties(background_color="F0E8F4")
    outside = slide.read((-64, -64), 0, (32, 32))
    assert (outside == (0xF0, 0xE8, 0xF4)).all()


def test_half_transparent_pixels_are_mixed() -> None:
    rgba = np.array([[[0, 100, 200, 128], [10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    mixed = slide_module._on_background(rgba, (255, 255, 200))
    assert mixed.tolist() == [[[127, 177, 200], [255, 255, 200], [10, 20, 30]]]


def test_a_region_over_the_border_keeps_its_size(whole: Path, picture: Rgb) -> None:
    with open_slide(whole) as slide:
        rgb = slide.read((1000, -10), 0, (64, 40))
    assert rgb.shape == (40, 64, 3)
    assert rgb.dtype == np.uint8
    assert (rgb[:10] == 255).all()
    assert (rgb[:, 24:] == 255).all()
    assert np.abs(rgb[10:, :24].astype(int) - picture[:30, 1000:]).max() <= 6


# Damage


def test_a_corrupt_tile_costs_that_tile_alone(damaged: Path, picture: Rgb) -> None:
    """OpenSlide's errors latch: through one raw handle everything after the bad tile fails."""
    with open_slide(damaged) as slide:
        for tile in (BAD, 0, BAD, BAD, *range(16)):
            x, y = corner(tile)
            if tile == BAD:
                with pytest.raises(SlideFailed, match="damaged at") as caught:
                    slide.read((x, y), 0, (TILE, TILE))
                assert caught.value.code == "unreadable"
            else:
                rgb = slide.read((x, y), 0, (TILE, TILE))
                assert np.abs(rgb.astype(int) - picture[y : y + TILE, x : x + TILE]).max() <= 6


def test_a_raw_handle_would_have_lost_the_rest(damaged: Path) -> None:
    """Should this ever pass a read, the reopening above can go."""
    with openslide.OpenSlide(damaged) as handle:
        with pytest.raises(openslide.OpenSlideError):
            handle.read_region(corner(BAD), 0, (TILE, TILE))
        with pytest.raises(openslide.OpenSlideError):
            handle.read_region((0, 0), 0, (TILE, TILE))


def test_a_corrupt_tile_costs_that_tile_alone_with_4_threads(damaged: Path) -> None:
    slide = open_slide(damaged)

    def readable(tile: int) -> bool:
        try:
            slide.read(corner(tile), 0, (TILE, TILE))
        except SlideFailed:
            return False
        return True

    order = np.random.default_rng(0).permutation(np.repeat(np.arange(16), 6))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(readable, order.tolist()))
    assert found == [tile != BAD for tile in order]


def test_a_slide_that_vanishes_while_open_is_a_slide_error(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "gone.svs"
    path.write_bytes(whole.read_bytes())
    slide = open_slide(path)
    path.unlink()
    with pytest.raises(SlideFailed):
        slide.read((0, 0), 0, (10, 10))


def test_handles_do_not_pile_up(damaged: Path) -> None:
    def count() -> int:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        return links.count(str(damaged))

    before = count()
    with open_slide(damaged) as slide:
        for _ in range(20):
            with pytest.raises(SlideFailed):
                slide.read(corner(BAD), 0, (TILE, TILE))
            slide.read((0, 0), 0, (TILE, TILE))
        assert count() <= before + 2
    assert count() == before


# Processes


def test_a_slide_can_be_pickled_and_reads_on(whole: Path) -> None:
    with open_slide(whole) as slide:
        here = slide.read((0, 0), 0, (64, 64))
        copy = pickle.loads(pickle.dumps(slide))
        assert copy.pyramid == slide.pyramid
        assert (copy.read((0, 0), 0, (64, 64)) == here).all()


def test_a_forked_child_reads_through_its_own_handle(whole: Path) -> None:
    slide = open_slide(whole)
    here = float(slide.read((0, 0), 0, (64, 64)).mean())
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = slide._local.handle
            value = float(slide.read((0, 0), 0, (64, 64)).mean())
            os.write(question, f"{value!r} {slide._local.handle is before}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(question)
    assert os.read(answer, 200).decode() == f"{here!r} False"
    os.close(answer)


def test_a_spawned_child_reads(whole: Path) -> None:
    slide = open_slide(whole)
    here = slide.read((0, 0), 0, (64, 64))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert (pool.submit(slide.read, (0, 0), 0, (64, 64)).result(timeout=60) == here).all()


def test_every_thread_has_its_own_handle(whole: Path) -> None:
    slide = open_slide(whole)
    handles = []
    both = threading.Barrier(2)

    def work() -> None:
        slide.read((0, 0), 0, (8, 8))
        handles.append(slide._local.handle)
        both.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handles[0] is not handles[1]


# The budget and tiles


def test_a_read_over_the_budget_is_never_asked_of_the_decoder(whole: Path) -> None:
    with open_slide(whole) as slide, pytest.raises(ValueError, match="over the budget"):
        slide.read((0, 0), 0, (2**13, 2**12 + 1))


def test_a_tile_is_reduced_by_area(whole: Path, picture: Rgb) -> None:
    with open_slide(whole) as slide:
        plan = plan_read(slide.pyramid, 2.0, 64)
        rgb = slide.read_tile((128, 256), plan)
    wanted = picture[256:512, 128:384].reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert plan.size_read_px == (256, 256)
    assert np.abs(rgb - wanted).max() <= 3


@pytest.mark.parametrize("budget", [2**16, 50_001, 30_000, 7_777])
def test_a_tile_read_in_strips_has_the_same_pixels(budget: int, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(whole) as slide:
        plan = plan_read(slide.pyramid, 1.7, 64)
        at_once = slide.read_tile((100, 30), plan)
        sizes = []
        read = slide.read

        def spy(xy: tuple[int, int], level: int, size: tuple[int, int]) -> Rgb:
            sizes.append(size[0] * size[1])
            return read(xy, level, size)

        monkeypatch.setattr(slide, "read", spy)
        monkeypatch.setattr(slide_module, "MAX_READ_PX", budget)
        assert (slide.read_tile((100, 30), plan) == at_once).all()
    assert max(sizes) <= budget
    assert (len(sizes) > 1) == (plan.size_read_px[0] * plan.size_read_px[1] > budget)


@pytest.mark.parametrize("side", [101, 173, 181, 200])
def test_strips_never_go_over_the_budget(side: int, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_module, "MAX_READ_PX", 10_000)
    with open_slide(whole) as slide:
        rgb = slide.read_tile((0, 0), ReadPlan(0, (side, side), 64, (side / 64, side / 64)))
    assert rgb.shape == (64, 64, 3)


def test_strips_of_a_coarser_level_fit_together(
    tmp_path: Path, write_tiff: Writer, picture: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "a.svs", [picture, np.ascontiguousarray(picture[::2, ::2])])
    with open_slide(path) as slide:
        plan = ReadPlan(1, (200, 200), 50, (8.0, 8.0))
        at_once = slide.read_tile((100, 30), plan)
        monkeypatch.setattr(slide_module, "MAX_READ_PX", 10_000)
        assert (slide.read_tile((100, 30), plan) == at_once).all()


# Content


def test_sha256_is_that_of_the_content(whole: Path, tmp_path: Path) -> None:
    assert sha256_of(whole) == hashlib.sha256(whole.read_bytes()).hexdigest()
    copy = tmp_path / "copy.svs"
    copy.write_bytes(whole.read_bytes() + b"\0")
    assert sha256_of(copy) != sha256_of(whole)


def test_sha256_of_what_is_no_file_fails_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.svs")
    for name, code in (("pipe.svs", "not_a_file"), ("missing.svs", "not_found"), (".", "not_a_file")):
        with pytest.raises(SlideFailed) as caught:
            sha256_of(tmp_path / name)
        assert caught.value.code == code


def test_a_disk_that_fails_under_the_hash_costs_that_slide(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", broken)
    with pytest.raises(SlideFailed, match="cannot be read") as caught:
        sha256_of(whole)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize(
    "head", [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"], ids=["little", "big", "BigTIFF", "big BigTIFF"]
)
def test_a_tiff_of_any_kind_begins_as_one(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(head + bytes(8))
    assert begins_as_tiff(tmp_path / "a.svs")


def test_nothing_is_read_from_a_pipe(tmp_path: Path) -> None:
    """Looking through a folder would wait at it for ever."""
    os.mkfifo(tmp_path / "pipe")
    full = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(full, (bytes(128) + b"DICM" + WHOLE_SLIDE).ljust(2048))
    assert not is_dicom_slide(tmp_path / "pipe")
    os.close(full)


def test_the_reader_s_versions_are_known() -> None:
    assert set(Slide.versions) == {"openslide", "openslide-python"}
    assert all(Slide.versions.values())


def test_the_files_beside_an_index_file_are_part_of_the_slide(tmp_path: Path) -> None:
    """An MRXS slide is an index file and a folder of data: a data file copied again is another slide."""
    index, data = tmp_path / "s.mrxs", tmp_path / "s"
    index.write_bytes(b"index")
    data.mkdir()
    (data / "Data0001.dat").write_bytes(b"pixels")
    before = companions_of(index)
    (data / "Data0001.dat").write_bytes(b"pixels mended")
    assert [name for name, _, _ in before] == ["Data0001.dat"]
    assert companions_of(index) != before
    assert companions_of(tmp_path / "s.svs") == []


def test_what_lies_beside_a_slide_of_several_files_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bug: any new file in the folder of a DICOM or VMS slide made a running slide `changed` and a finished one new.
    monkeypatch.setattr(slide_module, "series_of", lambda path: "1.2.3")
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM..1.2.3..")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM..1.2.3..pixels")
    (tmp_path / "s.vms").write_bytes(b"ImageFile=s(0,0).jpg")
    (tmp_path / "s(0,0).jpg").write_bytes(b"pixels")
    dicom, index = companions_of(tmp_path / "a.dcm"), companions_of(tmp_path / "s.vms")
    assert [name for name, _, _ in dicom] == ["a.dcm", "b.dcm"]
    assert [name for name, _, _ in index] == ["s(0,0).jpg"]
    (tmp_path / "c.dcm").write_bytes(b"..9.9.9..")
    (tmp_path / "ledger.sqlite").write_bytes(b"books")
    (tmp_path / "old.dcm").mkdir()
    assert companions_of(tmp_path / "a.dcm") == dicom
    assert companions_of(tmp_path / "s.vms") == index


# A scanner's own frame


@pytest.mark.parametrize(
    ("recorded", "stage"),
    [
        (("17860735", "-3", "0.25", "0.5"), Stage((17860735.0, -3.0), (250.0, 500.0))),
        (("17860735", "x", "0.25", "0.5"), None),
        (("17860735", "-3", "1000", "1000"), None),
        (None, None),
    ],
)
def test_the_frame_of_a_hamamatsu_scan_is_what_it_records(
    recorded: tuple[str, ...] | None, stage: Stage | None, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixel size is the recorded one even when the user gives another scale."""
    names = (
        "hamamatsu.XOffsetFromSlideCentre",
        "hamamatsu.YOffsetFromSlideCentre",
        "openslide.mpp-x",
        "openslide.mpp-y",
    )
    if recorded:
        monkeypatch.setattr(openslide.OpenSlide, "properties", dict(zip(names, recorded, strict=True)))
    with open_slide(whole, mpp=2.0) as slide:
        assert slide.pyramid.stage == stage


def test_a_tiff_that_is_cut_short_is_told_from_what_is_no_slide(painted: Path, tmp_path: Path) -> None:
    """Regression: half a copy was to be converted, as a text file was."""
    (tmp_path / "half.svs").write_bytes(painted.read_bytes()[: painted.stat().st_size // 3])
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(SlideFailed, match="begins as a TIFF but is cut short"):
        open_slide(tmp_path / "half.svs")
    with pytest.raises(SlideFailed, match="is not a slide format"):
        open_slide(tmp_path / "text.svs")


def test_a_missing_scale_is_told_with_what_helps_to_find_it(write_tiff: Callable[..., Path], tmp_path: Path) -> None:
    picture = np.full((300, 400, 3), 240, np.uint8)
    with_power = write_tiff(tmp_path / "a.svs", [picture], description="Aperio made for a test |AppMag = 20")
    with pytest.raises(SlideRefused, match=r"\(400 x 300 px, objective 20x\) records no scale"):
        open_slide(with_power)
    assert lacks_scale(with_power)
    assert not lacks_scale(write_tiff(tmp_path / "b.svs", [picture]))
    assert not lacks_scale(tmp_path / "gone.svs")


def test_an_index_file_without_its_folder_says_what_is_missing(tmp_path: Path) -> None:
    """Regression: `convert it` was what an archivist read who had copied one file of two."""
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"\xff\xd8 a JPEG, as these begin")
    with pytest.raises(SlideFailed, match=r"lacks the folder a with its Slidedat\.ini beside it"):
        open_slide(path)


def test_the_scale_that_ome_xml_states_is_told_and_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    image = np.full((300, 400, 3), 240, np.uint8)
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", metadata=metadata)
    with pytest.raises(SlideRefused, match=r"records no scale that OpenSlide reads \(its OME-XML says 0\.5 µm\)"):
        open_slide(path)
