"""Sets of diagnoses: the finite-sample quantile, and coverage on simulated slides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.models.conformal import WANTED, Conformal, LabelBound, bound_of, fit_conformal

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=200)


@given(SCORES, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_bound_is_the_score_of_rank_n_plus_1_times_the_level(scores: list[float], wanted: float) -> None:
    n, bound = len(scores), bound_of(scores, wanted)
    rank = math.ceil(round((n + 1) * wanted, 9))
    assert bound.patients == n
    if rank <= n:
        assert (bound.largest_score, bound.level) == (sorted(scores)[rank - 1], wanted)
    else:
        assert (bound.largest_score, bound.level) == (max(scores), n / (n + 1))


@pytest.mark.parametrize(("n", "level"), [(9, 0.9), (18, 18 / 19), (19, 0.95), (500, 0.95)])
def test_95_percent_takes_nineteen_patients(n: int, level: float) -> None:
    assert bound_of([0.1] * n).level == pytest.approx(level)


@given(SCORES, st.permutations(range(5)))
def test_the_order_of_patients_is_nothing(scores: list[float], order: list[int]) -> None:
    turned = [scores[i % len(scores)] for i in order] + scores
    assert bound_of(turned) == bound_of(turned[::-1])


@pytest.mark.parametrize("n", [19, 30, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_coverage_on_new_slides_is_what_is_promised_and_not_much_more(n: int, seed: int) -> None:
    """Over many calibrations the mean coverage lies between the level and the level + 1 / (n + 1)."""
    rng = np.random.default_rng(seed)
    coverage = []
    for _ in range(400):
        scores = rng.beta(0.5, 4, n)
        bound = bound_of(scores.tolist())
        coverage.append(float((rng.beta(0.5, 4, 300) <= bound.largest_score).mean()))
    assert WANTED - 0.01 < np.mean(coverage) < WANTED + 1 / (n + 1) + 0.01


def test_coverage_holds_label_by_label_where_one_label_is_hard() -> None:
    rng = np.random.default_rng(3)
    draw = {"easy": lambda n: rng.beta(0.3, 20, n), "hard": lambda n: rng.beta(3, 3, n)}
    hit: dict[str, list[float]] = {"easy": [], "hard": []}
    for _ in range(200):
        conformal, told = fit_conformal({name: draw[name](40).tolist() for name in draw})
        assert conformal is not None
        assert told == ()
        for name in draw:
            hit[name].append(float((draw[name](200) <= conformal.labels[name].largest_score).mean()))
    assert all(np.mean(shares) > WANTED - 0.01 for shares in hit.values())


def test_too_few_patients_certify_less_or_nothing_and_say_so() -> None:
    none, told = fit_conformal({"a": [0.1] * 30, "b": [0.1] * 8})
    assert none is None
    assert told == (
        "No sets of diagnoses: fewer than 9 calibration patients of b (8) with a slide that no check speaks against.",
    )
    least, told = fit_conformal({"a": [0.1] * 30, "b": [0.1] * 9})
    assert least is not None
    assert least.level == pytest.approx(9 / 10)
    assert told == ("Cannot certify 95 % for b: 9 calibration patients allow 90.0 %.",)
    some, told = fit_conformal({"a": [0.1] * 30, "b": [0.1] * 12})
    assert some is not None
    assert some.level == pytest.approx(12 / 13)
    assert told == ("Cannot certify 95 % for b: 12 calibration patients allow 92.3 %.",)


def test_a_set_may_hold_one_label_several_or_none() -> None:
    bound = LabelBound(patients=30, level=0.95, largest_score=0.4)
    conformal = Conformal(wanted=0.95, labels={"a": bound, "b": bound.model_copy(update={"largest_score": 0.7})})
    assert conformal.not_excluded({"a": 0.6, "b": 0.4}) == ("a", "b")
    assert conformal.not_excluded({"a": 0.59, "b": 0.41}) == ("b",)
    assert conformal.not_excluded({"a": 0.9, "b": 0.1}) == ("a",)
    assert conformal.not_excluded({"a": 0.2, "b": 0.2}) == ()
