from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.evaluation.burden import (
    _weighted_median,
    area_agreement,
    bland_altman,
    concordance,
    intraclass_correlation,
)
from histo.evaluation.cases import read_cohort
from histo.evaluation.localisation import Found
from histo.evaluation.sizes import by_size, detection_curve, needles
from tests.evaluation.conftest import NOTHING_THERE

CC = "calcinosis_cutis"
OUTLINED = (("calcification", (800.0, 800.0, 200.0)),)


def of_lesions(*reported):
    """Return the measures of a slide by class: nothing of the first, lesions of the second."""
    lesions = tuple(Found(0.01, 113.0, True, hit) for hit in reported)
    return [NOTHING_THERE, replace(NOTHING_THERE, class_name="calcification", lesions=lesions)]


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


@pytest.mark.parametrize(
    ("found_of_100_um", "found_of_200_um", "d50", "d95"),
    [
        # Through two points a curve goes exactly: log odds of -ln 3 and 0, a slope of ln 3 a doubling.
        (4, 8, 200.0, None),
        # ln 7 and ln 15.
        (14, 15, None, 200 * 2 ** (np.log(19 / 15) / np.log(15 / 7))),
    ],
)
def test_a_diameter_more_than_a_doubling_beyond_what_was_seen_is_not_given(found_of_100_um, found_of_200_um, d50, d95):
    found = [k < found_of_100_um for k in range(16)] + [k < found_of_200_um for k in range(16)]
    curve = detection_curve([100.0] * 16 + [200.0] * 16, found)
    assert (curve["d50_um"], curve["d95_um"]) == (d50 and pytest.approx(d50), d95 and pytest.approx(d95))


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
    size = (("diameter_um", "200"),)
    slides = [
        made(CC, CC, truth=OUTLINED, extra=size),
        made(CC, CC, truth=OUTLINED, extra=size),
        made(CC, None, "failed", truth=OUTLINED, extra=size),
        made(CC, CC, extra=size),
        made(CC, CC, truth=OUTLINED),
    ]
    located = [of_lesions(False, True), of_lesions(False), None, None, of_lesions(True)]
    found = needles(read_cohort(*make_cohort(slides)), located)
    (row,) = found["by_diameter"]
    assert (row["found"]["hits"], row["found"]["n"]) == (1, 3)
    assert (row["missed_without_review"]["hits"], found["left_out"]) == (1, 1)


def test_a_twin_without_its_deposit_is_no_missed_deposit(make_cohort, made):
    """Regression: `histo phantom` writes the diameter for a twin without lesions, too, which counted as missed."""
    size = (("varied", "calcium.diameter_um=200"),)
    slides = [made(CC, CC, truth=OUTLINED, extra=size), made("normal", "normal", truth=OUTLINED, extra=size)]
    (row,) = needles(read_cohort(*make_cohort(slides)), [of_lesions(True), of_lesions()])["by_diameter"]
    assert (row["found"]["hits"], row["found"]["n"], row["missed_without_review"]["hits"]) == (1, 1, 0)


def test_needles_are_counted_by_diameter_whether_found_and_whether_someone_looks(make_cohort, made):
    groups = [("60", "done", False), ("120", "done", True), ("120", "done", False)]
    groups += [("120", "review", True), ("120", "review", False)]
    times = [1, 1, 2, 3, 4]
    slides, located = [], []
    for (size, status, hit), count in zip(groups, times, strict=True):
        slides += [made(CC, CC if hit else "normal", status, extra=(("diameter_um", size),))] * count
        located += [of_lesions(hit)] * count
    small, large = needles(read_cohort(*make_cohort(slides)), located)["by_diameter"]
    assert [small["diameter_um"], large["diameter_um"]] == [60, 120]
    names = ("found", "confident", "found_in_review", "missed_without_review", "verdict_right")
    assert [small[name]["hits"] for name in names] == [0, 0, 0, 1, 0]
    assert [large[name]["hits"] for name in names] == [4, 1, 3, 2, 4]
    assert {large[name]["n"] for name in names} == {10}


def test_area_errors_of_a_case_worked_by_hand():
    """Called three times, half and 1.1 times the true area: errors of 200, 50 and 10 %."""
    slides = [replace(NOTHING_THERE, called_mm2=5.0)]
    slides += [replace(NOTHING_THERE, truth_mm2=t, called_mm2=c, dice=0.5) for t, c in ((1, 3), (2, 1), (4, 4.4))]
    weights = np.zeros((40, 7))
    weights[:, 5] = 1  # every round draws one patient only, the one whose area is halved
    found = area_agreement(slides, SimpleNamespace(weights=weights), np.array([1, 2, 5, 6]))
    assert (found["n"], found["missed"]) == (3, 0)
    assert (found["median_error"], found["median_bias"]) == pytest.approx((0.5, 0.1))
    assert (found["patient_low"], found["patient_high"]) == (0.5, 0.5)
    assert found["pairs_mm2"] == [[1, 3], [2, 1], [4, 4.4]]


def test_too_large_an_area_is_an_error_as_large_as_it_is():
    slide = replace(NOTHING_THERE, truth_mm2=1.0, called_mm2=3.0, dice=0.5)
    found = area_agreement([slide], SimpleNamespace(weights=np.ones((10, 1))), np.arange(1))
    assert (found["median_error"], found["median_bias"], found["patient_high"]) == (2, 2, 2)


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
