import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from histo.evaluation.calibration import (
    brier,
    debiased,
    floor,
    reliability,
    slope_and_intercept,
)
from histo.statistics import CALIBRATION_BINS, calibration_errors

cases = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def naive(p, y):
    total = 0.0
    for b in range(CALIBRATION_BINS):
        inside = [
            (q, t) for q, t in zip(p, y, strict=True) if min(int(q * CALIBRATION_BINS), CALIBRATION_BINS - 1) == b
        ]
        if inside:
            total += len(inside) / len(p) * abs(np.mean([q for q, _ in inside]) - np.mean([t for _, t in inside]))
    return total


@given(cases)
def test_the_error_is_the_sum_over_bins(pairs):
    p, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    assert calibration_errors(p, y[None])[0] == pytest.approx(naive(p, y), abs=1e-12)
    assert sum(b["share"]["n"] for b in reliability(p, y)) == len(p)


def test_the_floor_is_the_error_of_outcomes_drawn_from_the_probabilities():
    rng = np.random.default_rng(3)
    p = rng.random(60)
    errors = [naive(p, rng.random(60) < p) for _ in range(400)]
    least, most = floor(p)
    assert least == pytest.approx(np.mean(errors), abs=0.008)
    assert most == pytest.approx(np.percentile(errors, 95), abs=0.02)


def test_the_floor_is_of_the_size_that_the_reference_gives():
    """reference/evaluation.md, for the probability of a verdict: 0.10 for 30 slides, 0.057 for 100, 0.033 for 300."""
    for n, mean in ((30, 0.099), (100, 0.057), (300, 0.033)):
        assert floor(np.random.default_rng(0).uniform(0.6, 1, n))[0] == pytest.approx(mean, rel=0.25)


def test_a_calibrated_model_has_no_error_above_the_floor_and_an_overconfident_one_has():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 400)
    honest = debiased(p, rng.random(400) < p)
    assert honest["value"] < 0.02
    assert debiased(np.clip(p + 0.3, 0, 0.999), rng.random(400) < p)["value"] > 0.12


@given(cases)
def test_the_parts_of_the_brier_score_sum_to_it(pairs):
    p, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    parts = brier(p, y)
    assert parts["value"] == pytest.approx(np.mean((p - y) ** 2))
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert total == pytest.approx(parts["value"], abs=1e-12)


def test_slope_and_intercept_are_those_of_an_unpenalised_regression():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.02, 0.98, 500)
    logit = np.log(p / (1 - p))
    y = rng.random(500) < 1 / (1 + np.exp(-(0.4 + 0.6 * logit)))
    found = slope_and_intercept(p, y)
    other = LogisticRegression(C=1e9, tol=1e-10, max_iter=2000).fit(logit[:, None], y)
    assert found["slope"] == pytest.approx(float(other.coef_[0, 0]), rel=1e-3)
    assert found["intercept"] == pytest.approx(float(other.intercept_[0]), abs=1e-3)
    assert found["slope_low"] < 0.6 < found["slope_high"]
    shifted = 1 / (1 + np.exp(-(logit + found["in_the_large"])))
    assert shifted.mean() == pytest.approx(y.mean(), abs=1e-9)


def test_the_interval_of_the_slope_is_that_of_wald_worked_by_hand():
    """3 of 10 happened at 0.2 and 16 of 20 at 0.8: the curve goes through both log odds, each known to ± its own."""
    p = np.repeat([0.2, 0.8], [10, 20])
    y = np.concatenate([np.arange(10) < 3, np.arange(20) < 16])
    found = slope_and_intercept(p, y)
    low, high, apart = np.log(3 / 7), np.log(16 / 4), 2 * np.log(4)
    slope, error = (high - low) / apart, np.sqrt(1 / 3 + 1 / 7 + 1 / 16 + 1 / 4) / apart
    assert found["slope"] == pytest.approx(slope)
    assert (found["slope_low"], found["slope_high"]) == pytest.approx((slope - 1.96 * error, slope + 1.96 * error))
    assert found["intercept"] == pytest.approx((low + high) / 2)


def test_separated_outcomes_have_no_slope():
    assert slope_and_intercept(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))["slope"] is None
    assert debiased(np.zeros(0), np.zeros(0, bool))["value"] is None
