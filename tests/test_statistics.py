import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from histo.statistics import association, auroc, clopper_pearson, separations


@given(st.integers(1, 60), st.data())
def test_the_interval_is_that_of_scipy(count, data):
    right = data.draw(st.integers(0, count))
    exact = binomtest(right, count).proportion_ci(method="exact")
    assert clopper_pearson(right, count) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_nothing_seen_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_that_of_sklearn(pairs):
    scores, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
    expected = roc_auc_score(positive, scores) if 0 < positive.sum() < len(positive) else 0.5
    assert auroc(scores, positive) == pytest.approx(expected)


def test_a_planted_property_is_significant_and_noise_is_not():
    rng = np.random.default_rng(3)
    positive = np.arange(24) < 8
    noise = {f"noise {i}": rng.normal(size=24) for i in range(12)}
    found = separations({**noise, "ink": positive + rng.normal(0, 0.1, 24)}, positive, 500, 0)
    area, p = found.pop("ink")
    assert area == 1
    assert p < 0.01
    assert min(p for _, p in found.values()) > 0.05


def test_few_patients_are_never_significant():
    positive = np.array([True, False, False])
    assert separations({"ink": np.array([1.0, 0, 0])}, positive, 500, 0)["ink"][1] > 0.2


def test_labels_that_follow_from_the_site_are_found():
    labels = ["a"] * 8 + ["b"] * 8
    assert association(labels, labels, 300, 0) == (pytest.approx(1.0), pytest.approx(1 / 301, abs=0.01))
    assert association(["x", "y"] * 8, labels, 300, 0)[1] > 0.5
    assert association(["x"] * 16, labels, 300, 0)[0] == 0
