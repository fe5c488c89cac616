import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from histo.evaluation.discrimination import auroc_interval, rank
from histo.evaluation.ranking import auroc, average_precision
from histo.evaluation.resampling import Bootstrap

rows = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=4, max_size=40)


@given(rows)
def test_areas_are_those_of_sklearn(slides):
    scores = np.array([float(s) for s, _, _ in slides])
    positive = np.array([p for _, p, _ in slides])
    weights = np.array([[float(w) for _, _, w in slides], np.ones(len(slides))])
    ours, ours_precision = auroc(scores, positive, weights), average_precision(scores, positive, weights)
    for k, w in enumerate(weights):
        if (w * positive).sum() and (w * ~positive).sum():
            assert ours[k] == pytest.approx(roc_auc_score(positive, scores, sample_weight=w))
            assert ours_precision[k] == pytest.approx(average_precision_score(positive, scores, sample_weight=w))
        else:
            assert not (w * positive).sum() or np.isnan(ours[k])


def test_slides_without_a_score_rank_last_in_the_worst_case():
    scores = np.array([0.9, 0.8, np.nan, 0.1, 0.2, np.nan])
    truth = np.array([1.0, 1.0, 1.0, 0.0, 0.0, np.nan])
    found = rank(scores, truth, Bootstrap(list("abcdef"), ["x"] * 6, 100))
    assert found["auroc"]["value"] == 1
    assert found["worst_case_auroc"] == pytest.approx(4 / 6)
    assert (found["without_score"], found["truth_unknown"]) == (1, 1)


def test_a_perfect_ranking_of_few_is_not_certain():
    truth = np.repeat([1.0, 0.0], 10)
    figure = rank(truth, truth, Bootstrap([str(k) for k in range(20)], ["x"] * 20, 100))["auroc"]
    assert (figure["value"], figure["low"], figure["high"]) == (1, pytest.approx(0.8, abs=1e-3), 1)


def test_hanley_and_mcneil_as_in_the_reference():
    """reference/evaluation.md: AUC 0.95 with 50 a class is known to about ± 0.045."""
    rng = np.random.default_rng(0)
    truth = np.repeat([1.0, 0.0], 50)
    scores = rng.normal(size=100) + truth * 2.326
    figure = rank(scores, truth, Bootstrap([str(k) for k in range(100)], ["x"] * 100, 100))["auroc"]
    assert (figure["high"] - figure["low"]) / 2 == pytest.approx(0.045, abs=0.015)


def test_too_few_of_a_kind_give_no_area():
    found = rank(np.array([0.1, 0.9]), np.array([0.0, 1.0]), Bootstrap(["a", "b"], ["x", "x"], 10))
    assert found["auroc"]["value"] is None


@given(st.floats(0, 1), st.integers(2, 300), st.integers(2, 300))
def test_the_interval_of_an_area_holds_it_and_stays_inside(area, positive, negative):
    low, high = auroc_interval(area, positive, negative)
    assert 0 <= low <= area <= high <= 1
    mirrored = auroc_interval(1 - area, positive, negative)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-6)


def test_an_area_of_nearly_one_is_nearly_as_sure_as_one():
    # Bug: on the logit an area of 0.9997 of 120 slides had an interval from 0.012 to 1.
    assert auroc_interval(0.9997, 40, 80)[0] == pytest.approx(auroc_interval(1.0, 40, 80)[0], abs=1e-3)
    assert auroc_interval(1.0, 40, 80)[0] == pytest.approx(0.963, abs=1e-3)
