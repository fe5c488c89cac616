"""The quality gate: stain, focus and the size of nuclei, on pictures whose truth is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from histo.data.focus import focus_reasons, measure_focus
from histo.data.quality import judge_quality
from histo.data.scale_check import measure_nuclei, scale_reasons
from histo.data.stain_check import measure_stain, stain_reasons

Rgb = NDArray[np.uint8]
GLASS = np.full(3, 245.0)
HAEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.22, 0.80, 0.56), (0.27, 0.57, 0.78)


def amounts(side: int = 256, nucleus_um: float = 6, seed: int = 0, nuclei: int = 120) -> NDArray[np.float32]:
    """Return haematoxylin and eosin (H, W, 2) of fibres with round nuclei, at 1 µm per pixel."""
    rng = np.random.default_rng(seed)
    eosin = sum(cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), s) * s for s in (0.5, 1, 2, 4, 8))
    dye = np.zeros((side * 4, side * 4), np.uint8)
    for x, y in rng.integers(0, side * 4, (nuclei, 2)).tolist():
        cv2.circle(dye, (x, y), round(nucleus_um * 2), 255, -1)
    nuclear = cv2.resize(dye, (side, side), interpolation=cv2.INTER_AREA) / 255
    return np.stack([nuclear * 0.9, np.clip(0.5 + 0.25 * eosin, 0.05, 2)], axis=-1).astype(np.float32)


def stained(dyes: NDArray[np.float32], first=HAEMATOXYLIN, second=EOSIN) -> Rgb:
    od = dyes[..., :1] * np.array(first) + dyes[..., 1:] * np.array(second)
    return np.clip(245 * np.exp(-od) + 0.5, 0, 255).astype(np.uint8)


def out_of_focus(tiles: Rgb, mpp: float) -> float | None:
    focus = measure_focus(tiles, mpp)
    return focus.blurred if focus else None


def codes(picture: Rgb, reference=None) -> list[str]:
    return [r.code for r in stain_reasons(measure_stain(picture[None], GLASS), reference)]


@given(st.floats(0.4, 2.5), st.floats(0.4, 2.5), st.integers(0, 50))
def test_h_and_e_of_any_laboratory_passes(gain_h: float, gain_e: float, seed: int) -> None:
    """Gains of x0.4 to x2.5 of both dyes, which is the spread of 66 laboratories."""
    picture = stained(amounts(128, seed=seed, nuclei=30) * np.array([gain_h, gain_e], np.float32))
    assert codes(picture) == []


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda dyes: 255 - stained(dyes), "not_h_and_e"),
        (lambda dyes: stained(dyes, HAEMATOXYLIN, DAB), "not_h_and_e"),
        (lambda dyes: stained(dyes * np.array([1, 0.05], np.float32) + 0.3, HAEMATOXYLIN, HAEMATOXYLIN), "not_h_and_e"),
        (lambda dyes: stained(dyes, EOSIN, (0.75, 0.3, 0.4)), "not_h_and_e"),
        (lambda dyes: (255 - stained(dyes)) * np.array([0, 0.4, 1]), "not_h_and_e"),
        (lambda dyes: np.repeat(stained(dyes)[..., 1:2], 3, axis=-1), "no_colour"),
        (lambda dyes: np.zeros_like(stained(dyes)), "not_h_and_e"),
    ],
    ids=["inverted", "brown", "counterstain only", "green", "fluorescence", "grey", "black"],
)
def test_what_is_no_h_and_e_is_told(spoil, code: str) -> None:
    assert codes(np.asarray(spoil(amounts()), np.uint8)) == [code]


def test_glass_has_no_stain_to_judge() -> None:
    signs = measure_stain(np.full((2, 64, 64, 3), 245, np.uint8), GLASS)
    assert signs.unexplained is None
    assert stain_reasons(signs, None) == ()
    assert stain_reasons(measure_stain(np.empty((0, 1, 1, 3), np.uint8), GLASS), None) == ()


def test_a_stain_far_from_the_reference_is_unusual_and_a_near_one_is_not() -> None:
    picture = stained(amounts())
    signs = measure_stain(picture[None], GLASS)
    own = {name: (getattr(signs, name), getattr(signs, name)) for name in ("red", "blue", "density")}
    assert codes(picture, own) == []
    assert codes(picture, own | {"density": (signs.density * 2.6, signs.density * 3)}) == ["unusual_stain"]
    assert codes(picture, own | {"blue": (signs.blue - 0.2, signs.blue - 0.1)}) == ["unusual_stain"]


@pytest.mark.parametrize("noise", [0, 2])
@pytest.mark.parametrize("gain", [0.4, 1, 2])
def test_a_blur_of_4_um_is_out_of_focus_and_one_of_1_um_is_not(gain: float, noise: float) -> None:
    """With a camera's noise after the blur too, which is as sharp as can be."""
    picture = stained(amounts() * np.float32(gain))
    rng = np.random.default_rng(3)
    shares = []
    for sigma in (0, 1, 4):
        blurred = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture
        noisy = np.clip(blurred + rng.normal(0, noise, blurred.shape), 0, 255).astype(np.uint8)
        shares.append(out_of_focus(noisy[None], 1.0))
    assert shares == [0, 0, 1]


def test_focus_is_judged_at_the_same_scale_whatever_the_model_s() -> None:
    picture = stained(amounts())
    fine = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert out_of_focus(np.asarray(cv2.GaussianBlur(fine, (0, 0), 8), np.uint8)[None], 0.5) == 1
    assert out_of_focus(np.asarray(fine, np.uint8)[None], 0.5) == 0
    assert out_of_focus(picture[None], 2.0) is None, "a coarse tile does not show it"
    assert out_of_focus(np.full((1, 256, 256, 3), 245, np.uint8), 1.0) is None, "glass has no focus"


def test_the_share_out_of_focus_is_told_in_mm2() -> None:
    sharp = stained(amounts())
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 4), np.uint8)
    focus = measure_focus(np.stack([sharp, blurred]), 1.0)
    assert focus is not None
    assert focus.blurred == pytest.approx(0.5, abs=0.05)
    (reason,) = focus_reasons(focus, 8.0)
    assert reason.code == "out_of_focus"
    assert "(4.0" in reason.message or "(3.9" in reason.message
    assert focus_reasons(measure_focus(sharp[None], 1.0), 8.0) == ()


def test_nuclei_twice_as_wide_make_the_scale_implausible() -> None:
    for width, wanted in ((4, []), (6, []), (7.5, []), (12, ["implausible_scale"])):
        found = measure_nuclei(stained(amounts(512, width, nuclei=250))[None], 1.0, GLASS)
        assert found is not None
        assert found.width_um == pytest.approx(width, rel=0.2)
        assert [r.code for r in scale_reasons(found)] == wanted


def test_nuclei_are_measured_at_the_same_scale_whatever_the_model_s() -> None:
    picture = stained(amounts(512, nuclei=250))
    fine = np.asarray(cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    found, again = measure_nuclei(picture[None], 1.0, GLASS), measure_nuclei(fine[None], 0.5, GLASS)
    assert found is not None
    assert again is not None
    assert again.width_um == pytest.approx(found.width_um, rel=0.05)


def test_many_small_nuclei_do_not_hide_the_large_ones() -> None:
    """The middle is that of their area: two small ones beside each one of twice the width have half of its."""
    small, large = amounts(512, 4, nuclei=200), amounts(512, 8, seed=1, nuclei=100)
    found = measure_nuclei(stained(np.stack([small, large])), 1.0, GLASS)
    assert found is not None
    assert found.width_um == pytest.approx(8, rel=0.1)


def test_a_few_nuclei_say_nothing_about_the_scale() -> None:
    assert measure_nuclei(stained(amounts(256, 12, nuclei=5))[None], 1.0, GLASS) is None
    assert measure_nuclei(stained(amounts(256, 12))[None], 2.0, GLASS) is None
    assert scale_reasons(None) == ()


def test_the_gate_tells_one_fault_at_a_time() -> None:
    """What is no H&E has no focus to speak of, and blurred nuclei have no width."""
    good = stained(amounts(512, nuclei=250))
    checks, reasons = judge_quality(good[None], 1.0, GLASS, 5.0, None)
    assert reasons == ()
    assert checks.nucleus_um == pytest.approx(6, rel=0.2)
    assert checks.out_of_focus_share == 0
    checks, reasons = judge_quality(255 - good[None], 1.0, GLASS, 5.0, None)
    assert [r.code for r in reasons] == ["not_h_and_e"]
    assert checks.out_of_focus_share is None
    soft = np.asarray(cv2.GaussianBlur(good, (0, 0), 2), np.uint8)
    checks, reasons = judge_quality(soft[None], 1.0, GLASS, 5.0, None)
    assert reasons == (), "a soft picture is neither out of focus nor of another scale"
    assert checks.out_of_focus_share == 0
    assert measure_nuclei(soft[None], 1.0, GLASS) is not None, "nuclei are found"
    assert (checks.nucleus_um, checks.nuclei) == (None, 0), "and blurred ones are wide for that reason alone"
    blurred = np.asarray(cv2.GaussianBlur(good, (0, 0), 4), np.uint8)
    checks, reasons = judge_quality(blurred[None], 1.0, GLASS, 5.0, None)
    assert [r.code for r in reasons] == ["out_of_focus"]
    assert checks.nucleus_um is None
