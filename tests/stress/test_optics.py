"""Disturbances of sharpness, noise, place and scale, measured; and the slides that they are written to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.slide import open_slide
from histo.stress.disturb import cut_out, disturb, read_picture, write_picture
from histo.stress.picture import Picture


@pytest.mark.parametrize(("sigma_um", "mpp"), [(0.5, 0.25), (1.0, 0.5), (2.0, 0.5), (4.0, 0.5)])
def test_blur_has_its_width_in_micrometres_on_an_impulse(sigma_um, mpp, stain):
    impulse = np.zeros((129, 129, 3), np.uint8)
    impulse[64] = 255  # a line: the profile across it is the blur's own
    found = disturb(Picture(impulse, mpp, stain, mpp), "blur", {"sigma_um": sigma_um}, "s").rgb[:, 64, 0].astype(float)
    x_um = (np.arange(129) - 64) * mpp
    assert np.sqrt((found * x_um**2).sum() / found.sum()) == pytest.approx(sigma_um, rel=0.06)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_has_its_strength_in_grey_levels(sigma, stain):
    flat = Picture(np.full((200, 200, 3), 128, np.uint8), 0.5, stain, 0.5)
    found = disturb(flat, "noise", {"sigma": sigma}, "s").rgb.astype(float)
    assert found.std() == pytest.approx(sigma, rel=0.05)
    assert found.mean() == pytest.approx(128, abs=0.2)


@given(quarters=st.integers(0, 3), mirror=st.booleans())
def test_turning_back_gives_the_picture_again(quarters, mirror, textured):
    picture = textured(40)
    turned = disturb(picture, "turn", {"quarters": quarters, "mirror": mirror}, "s").rgb
    back = np.rot90(turned[:, ::-1] if mirror else turned, -quarters)
    assert np.array_equal(back, picture.rgb)


def test_a_turned_slide_has_the_very_pixels(skin, tmp_path):
    """Regression: it was written as JPEG, whose chroma is halved: up to a third of "unchanged" pixels differed."""
    small = cut_out(skin, 1100)
    write_picture(tmp_path / "turned.svs", disturb(small, "turn", {"quarters": 1, "mirror": False}, "s"))
    back = read_picture(tmp_path / "turned.svs", skin.stain)
    assert np.array_equal(np.rot90(back.rgb, -1), small.rgb)
    assert back.mpp == skin.mpp


def test_any_turn_keeps_the_whole_slide_on_a_larger_glass(skin):
    turned = disturb(skin, "rotate", {"degrees": 37.0}, "s").rgb
    assert turned.shape[0] > 2700
    assert (turned[0, 0] > 240).all()
    dark = [(p[..., 1] < 200).sum() for p in (skin.rgb, turned)]
    assert dark[1] == pytest.approx(dark[0], rel=0.01)


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_another_scale_is_recorded_and_keeps_sizes_in_micrometres(mpp, skin, tmp_path):
    write_picture(tmp_path / "s.svs", disturb(skin, "rescale", {"mpp": mpp}, "s"))
    with open_slide(tmp_path / "s.svs") as slide:
        assert slide.pyramid.mpp_x == pytest.approx(mpp)
        width, _ = slide.pyramid.size_level0_px
    assert width * mpp == pytest.approx(1000, abs=1)


def test_a_wrong_scale_is_recorded_and_no_pixel_is_changed(skin, tmp_path):
    found = disturb(skin, "wrong_scale", {"factor": 2.0}, "s")
    assert np.array_equal(found.rgb, skin.rgb)
    write_picture(tmp_path / "s.svs", found)
    with open_slide(tmp_path / "s.svs") as slide:
        assert slide.pyramid.mpp_x == pytest.approx(1.0)


def test_the_offset_moves_everything_by_its_length(skin):
    found = disturb(skin, "offset", {"um": 128.0}, "s").rgb
    assert np.array_equal(found[256:, 256:], skin.rgb)
    assert (found[:256] > 240).all()


def test_jpeg_quality_is_that_of_the_file(textured, tmp_path):
    sizes = []
    for quality in (95, 60, 20):
        write_picture(tmp_path / "s.svs", disturb(textured(600), "jpeg", {"quality": quality}, "s"))
        sizes.append((tmp_path / "s.svs").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_written_picture_is_read_again(textured, stain, tmp_path):
    picture = textured(1100)
    write_picture(tmp_path / "s.svs", picture)
    found = read_picture(tmp_path / "s.svs", stain)
    assert found.mpp == pytest.approx(0.5)
    assert np.abs(found.rgb.astype(int) - picture.rgb).mean() < 2


def test_the_middle_is_cut_out(textured):
    assert cut_out(textured(128), 40).rgb.shape == (40, 40, 3)
    assert cut_out(textured(30), 40).rgb.shape == (30, 30, 3)
