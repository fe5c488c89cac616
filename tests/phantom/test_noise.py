"""Sheets along a coordinate, numbers out of numbers, and ramps: what textures are made of."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from histo.phantom.noise import fraction, layers, ramp


@given(seed=st.integers(1, 2**48), start=st.integers(-50_000, 50_000), spacing=st.floats(0.7, 30))
def test_sheets_depend_on_the_coordinate_alone(seed: int, start: int, spacing: float) -> None:
    long = np.arange(start, start + 600, dtype=np.float32).reshape(20, 30)
    np.testing.assert_array_equal(layers(seed, long, spacing)[7:13], layers(seed, long[7:13].copy(), spacing))


def test_sheets_have_no_period_and_unit_variance() -> None:
    line = layers(5, np.arange(60_000, dtype=np.float32)[None, :], 4.0)[0]
    assert abs(float(line.mean())) < 0.1
    assert 0.6 < float(line.std()) < 1.2
    spectrum = np.abs(np.fft.rfft(line * np.hanning(line.size))) ** 2
    smooth = np.convolve(spectrum, np.ones(401) / 401, mode="same")[1000:12_000]
    assert (spectrum[1000:12_000] / smooth).max() < 25, "one frequency stands out"


@given(st.floats(-1000, 1000, width=32))
def test_a_fraction_lies_between_nought_and_one(value: float) -> None:
    assert 0 <= float(fraction(np.array([value], np.float32))[0]) <= 1


@given(low=st.floats(-10, 10), width=st.floats(0.01, 20), falling=st.booleans())
def test_a_ramp_rises_or_falls_from_end_to_end(low: float, width: float, falling: bool) -> None:
    values = np.linspace(low - width, low + 2 * width, 301, dtype=np.float32)
    risen = ramp(values, low + width, low) if falling else ramp(values, low, low + width)
    steps = np.diff(risen)
    assert risen.min() >= 0
    assert risen.max() <= 1 + 1e-6
    assert ((steps <= 1e-6) if falling else (steps >= -1e-6)).all()
    assert abs(float(risen[0] - risen[-1])) > 0.999
