"""Nothing betrays how a slide was made: no periodic texture, no trace of chunk borders."""

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.phantom.render import render
from histo.phantom.slide import parameters, plan

CHUNK = 512


def drawn(kind: str, seed: int) -> NDArray[np.float64]:
    asked = parameters(kind=kind, seed=seed, size_px=(2048, 2048), mpp=0.5, domain="train", patient_seed=None)
    image = render(*plan(asked), chunk_px=CHUNK)[0]
    return np.asarray(image.astype(float).mean(axis=2))


@pytest.fixture(scope="module")
def slides() -> list[NDArray[np.float64]]:
    return [drawn("mixed", 31), drawn("confounder", 32)]


def test_spectrum_has_no_periodic_peak(slides: list[NDArray[np.float64]]) -> None:
    """A repeated texture is a spike in the spectrum of rows or columns; tissue's spectrum is smooth."""
    for image in slides:
        for lines in (image, image.T):
            window = np.hanning(lines.shape[1])
            power = (np.abs(np.fft.rfft((lines - lines.mean(axis=1, keepdims=True)) * window)) ** 2).mean(axis=0)[8:]
            smooth = np.exp(np.convolve(np.log(power), np.ones(25) / 25, mode="same"))
            ratio = (power / smooth)[13:-13]
            assert ratio.max() < 1.6, (int(ratio.argmax()) + 21, float(ratio.max()))


def test_a_planted_period_is_found(slides: list[NDArray[np.float64]]) -> None:
    planted = slides[0] + 4 * np.sin(np.arange(2048) * 2 * np.pi / 32)[None, :]
    with pytest.raises(AssertionError):
        test_spectrum_has_no_periodic_peak([planted])


def test_chunk_borders_are_like_any_other_line(slides: list[NDArray[np.float64]]) -> None:
    """Steps between neighbouring pixels across chunk borders must not stand out among the steps beside them."""
    for image in slides:
        for lines in (image, image.T):
            step = np.abs(np.diff(lines, axis=1)).mean(axis=0)
            for border in range(CHUNK, lines.shape[1], CHUNK):
                beside = np.r_[step[border - 41 : border - 1], step[border : border + 40]]
                assert abs(step[border - 1] - beside.mean()) < 5 * beside.std() + 0.05, border
