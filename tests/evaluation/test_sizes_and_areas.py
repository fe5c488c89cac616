import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.evaluation.burden import _weighted_median, bland_altman, concordance, intraclass_correlation
from histo.evaluation.cases import read_cohort
from histo.evaluation.localisation import Found
from histo.evaluation.sizes import by_size, detection_curve, needles


def test_the_curve_finds_the_diameters_that_made_the_data():
    rng = np.random.default_rng(0)
    diameters = np.exp(rng.uniform(np.log(30), np.log(600), 4000))
    chance = 1 / (1 + np.exp(-3 * np.log2(diameters / 100)))
    found = detection_curve(diameters, rng.random(4000) < chance)
    assert found["d50_um"] == pytest.approx(100, rel=0.06)
    assert found["d95_um"] == pytest.approx(100 * 2 ** (np.log(19) / 3), rel=0.08)


def test_what_cannot_be_fitted_has_no_diameter():
    assert detection_curve([50.0, 100.0], [True, True])["d50_um"] is None
    assert detection_curve([50.0, 60.0, 100.0, 120.0], [False, False, True, True])["d95_um"] is None
    assert detection_curve([], [])["n"] == 0


@pytest.mark.parametrize("found", [[0] * 7 + [1] + [0] * 6, [1] * 7 + [1] + [0] * 6])
def test_a_curve_that_two_diameters_cannot_tell_has_no_diameter(found):
    """Regression: none of 7 at 100 µm and 1 of 7 at 200 µm gave a d95 of 217 µm, which was noise of the fit."""
    curve = detection_curve([100.0] * 7 + [200.0] * 7, [bool(f) for f in found])
    assert (curve["d50_um"], curve["d95_um"]) == (None, None)


def test_every_lesion_stands_in_one_bin():
    lesions = [Found(0.01, d, True, d > 90) for d in (10.0, 60.0, 99.0, 100.0, 5000.0)]
    found = by_size(lesions)
    assert sum(b["share"]["n"] for b in found["bins"]) == 5
    assert [(b["from_um"], b["share"]["hits"]) for b in found["bins"]] == [(0, 0), (50, 1), (100, 1), (1000, 1)]


def test_a_deposit_that_nobody_outlined_is_not_missed(make_cohort, made):
    # Bug: a slide with the diameter of its deposit and without its outline counted as missed.
    label, size = "calcinosis_cutis", (("diameter_um", "200"),)
    slides = [
        made(label, label, truth=(("calcification", (800.0, 800.0, 200.0)),), extra=size),
        made(label, label, extra=size),
    ]
    found = needles(read_cohort(*make_cohort(slides)).cases, [None, None])
    (row,) = found["by_diameter"]
    assert (row["found"]["n"], row["missed_without_review"]["hits"], found["left_out"]) == (1, 1, 1)


def test_concordance_and_limits_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert concordance(truth, truth) == pytest.approx(1)
    # Lin 1989: 2 s_xy / (s_x² + s_y² + (mean difference)²), here 2 * 1.25 / (1.25 + 1.25 + 1).
    assert concordance(truth, truth + 1) == pytest.approx(2.5 / 3.5)
    limits = bland_altman(truth, 1.1 * truth)
    assert (limits["ratio"], limits["low"], limits["high"]) == pytest.approx((1.1, 1.1, 1.1))
    errors = np.array([0.9, 1.0, 1.2, 1.0])
    spread = np.log(errors).std(ddof=1)
    assert bland_altman(truth, truth * errors)["high"] == pytest.approx(np.exp(np.log(errors).mean() + 1.96 * spread))


def test_the_intraclass_correlation_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert intraclass_correlation(truth, truth) == pytest.approx(1)
    # Mean squares: 10/3 of slides, 2 of raters, 0 of the rest; 10/3 / (10/3 + 2 * 2 / 4).
    assert intraclass_correlation(truth, truth + 1) == pytest.approx(10 / 13)
    assert intraclass_correlation(truth[:2], truth[:2]) is None


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 3)), min_size=1, max_size=20))
def test_a_weighted_median_is_that_of_repeated_values(pairs):
    values, weights = (np.array(x, float) for x in zip(*pairs, strict=True))
    found = _weighted_median(values, weights[None])[0]
    if weights.sum():
        assert found == pytest.approx(np.median(values.repeat(weights.astype(int))))
    else:
        assert np.isnan(found)
