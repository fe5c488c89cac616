import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.evaluation.abstention import coverage_risk
from histo.evaluation.intervals import share
from histo.evaluation.usefulness import at_prevalences, decision_curve, predictive_values

inside = st.floats(0.05, 0.95)


@given(inside, inside, inside)
def test_predictive_values_are_bayes(sensitivity, specificity, prevalence):
    ppv, npv = predictive_values(sensitivity, specificity, prevalence)
    n = 1e6
    sick = n * prevalence
    hits, false = sick * sensitivity, (n - sick) * (1 - specificity)
    assert ppv == pytest.approx(hits / (hits + false))
    assert npv == pytest.approx((n - sick - false) / (n - hits - false))


def test_bounds_hold_the_value_and_rare_disease_has_a_low_ppv():
    rows = at_prevalences({"sensitivity": share(95, 100), "specificity": share(190, 200)})
    assert [r["prevalence"] for r in rows] == [0.001, 0.01, 0.1, 0.33]
    for r in rows:
        for name in ("ppv", "npv"):
            assert r[name]["low"] <= r[name]["value"] <= r[name]["high"]
    assert rows[0]["ppv"]["value"] == pytest.approx(0.0187, abs=1e-3)


def test_net_benefit_by_hand():
    """Vickers and Elkin 2006: TP / n - FP / n * t / (1 - t)."""
    positive = np.array([True, True, False, False, False])
    rows = decision_curve(np.array([0.9, 0.3, 0.6, 0.1, np.nan]), positive)
    at = {r["threshold"]: r for r in rows}
    assert at[0.5]["model"] == pytest.approx(1 / 5 - 1 / 5)
    assert at[0.2]["model"] == pytest.approx(2 / 5 - 1 / 5 * 0.25)
    assert at[0.2]["all"] == pytest.approx(2 / 5 - 3 / 5 * 0.25)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_risk_at_full_coverage_is_the_error(right):
    curve = coverage_risk(right)
    assert curve[-1]["coverage"] == pytest.approx(1)
    assert curve[-1]["risk"] == pytest.approx(1 - np.mean(right))
    assert all(a["coverage"] < b["coverage"] for a, b in itertools.pairwise(curve))
