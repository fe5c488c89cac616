"""The arithmetic of passing and failing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.stress.judge import (
    Check,
    area_changes,
    area_cv,
    at_least,
    at_most,
    balanced_accuracy,
    better,
    change_of_p,
    combine,
    false_calls,
    flips,
    not_run,
    number,
    pairs,
    psychometric,
    share_words,
    told,
)
from histo.stress.negatives import NEGATIVES


def test_a_share_has_its_exact_interval():
    # Clopper and Pearson: the upper bound of 0 of 30 is 1 - 0.025^(1/30).
    assert share_words(0, 30) == f"0 of 30 = 0.0 % (0.0 to {100 * (1 - 0.025 ** (1 / 30)):.1f} %)"


@pytest.mark.parametrize(
    ("hits", "n", "outcome"),
    [(0, 60, "pass"), (1, 60, "pass"), (2, 60, "fail"), (0, 12, "insufficient n"), (1, 12, "insufficient n"),
     (2, 12, "fail"), (0, 0, "insufficient n")],
)  # fmt: skip
def test_two_percent_of_sixty(hits, n, outcome):
    assert at_most("x", hits, n, 0.02, 60).outcome == outcome


@given(n=st.integers(1, 200), needs=st.integers(1, 100), share=st.floats(0, 1), limit=st.floats(0.001, 0.999))
def test_too_few_slides_never_pass_and_fail_only_beyond_repair(n, needs, share, limit):
    hits = round(share * n)
    check = at_most("x", hits, n, limit, needs)
    if n < needs:
        assert check.outcome == ("fail" if hits > limit * needs + 1e-9 else "insufficient n")
    else:
        assert check.outcome == ("pass" if hits <= limit * n + 1e-9 else "fail")


@pytest.mark.parametrize(("hits", "n", "outcome"), [(27, 30, "pass"), (26, 30, "fail"), (4, 4, "insufficient n")])
def test_ninety_percent_of_thirty(hits, n, outcome):
    assert at_least("x", hits, n, 0.9, 30).outcome == outcome


def test_several_looks_at_a_slide_are_no_more_slides():
    assert at_most("x", 0, 120, 0.02, 60, slides=30).outcome == "insufficient n"
    assert at_most("x", 2, 120, 0.02, 60, slides=60).outcome == "pass"
    assert at_most("x", 3, 120, 0.02, 60, slides=60).outcome == "fail"
    # Bug: two looks at each of 60 slides had the interval of 120 slides.
    assert at_most("x", 6, 120, 0.02, 60, slides=60).figure == "6 of 120 looks at 60 slides = 5.0 %"


def test_a_number_is_compared_only_with_enough_slides():
    assert number("x", 3.0, 30, 3, 30).outcome == "pass"
    assert number("x", 3.1, 30, 3, 30).outcome == "fail"
    assert number("x", 99.0, 29, 3, 30).outcome == "insufficient n"
    assert number("x", None, 30, 3, 30).outcome == "insufficient n"
    assert number("x", 0.8, 5, 0.85, 5, most=False).outcome == "fail"


def test_a_check_tells_whether_its_limit_is_kept_so_far():
    assert at_most("x", 0, 4, 0.02, 60).kept
    assert not at_most("x", 1, 4, 0.02, 60).kept
    assert number("x", 2.0, 4, 3, 30, " %").kept
    assert not number("x", 0.5, 4, 0.85, 5, most=False).kept
    assert at_most("x", 0, 0, 0.02, 60).kept is None


def test_one_of_two_is_enough():
    shy, right = at_least("shy", 3, 60, 0.5, 60), at_least("right", 57, 60, 0.9, 60)
    assert better(shy, right) == better(right, shy) == right
    assert better(shy, at_least("right", 4, 4, 0.9, 60)).outcome == "insufficient n"


def test_of_two_that_are_undecided_that_within_its_limit_is_better():
    """Regression: the first was told, beyond its limit, though 30 of 30 were right by the other."""
    beyond, within = at_least("beyond", 10, 30, 0.5, 60), at_least("within", 30, 30, 0.9, 60)
    assert beyond.outcome == within.outcome == "insufficient n"
    assert better(beyond, within) == better(within, beyond) == within


def test_several_looks_at_a_slide_are_not_several_slides():
    """Regression: a slide with both classes counted twice towards the slides that a decision needs."""
    check = at_least("rises", 36, 36, 0.99, 30, slides=24)
    assert (check.n, check.outcome, check.kept) == (24, "insufficient n", True)
    assert check.figure == "36 of 36 looks at 24 slides = 100.0 %"


def test_a_test_is_as_good_as_its_worst_check():
    good, bad, few = (Check("", "", 0.0, "", 1, 1, o) for o in ("pass", "fail", "insufficient n"))
    assert combine([good, told("x", "y", 3)]) == "pass"
    assert combine([good, few, bad]) == "fail"
    assert combine([good, few]) == "insufficient n"
    assert combine([good, not_run("x", "do it")]) == "not run"
    assert combine([]) == combine([told("x", "y", 3)]) == "insufficient n"


def test_a_flip_is_another_verdict_and_no_verdict_is_one_too(seen):
    clean = [seen(), seen("calcinosis_cutis"), seen(), None]
    other = [seen(), seen("normal", "review", ("uncertain",)), seen(None, "refused", ("no_tissue",)), seen()]
    check = flips("x", clean, [other], 0.02, 2)
    assert (check.value, check.n, check.outcome) == (2 / 3, 3, "fail")
    assert "0 confident on both sides" in check.figure


def test_flips_under_several_disturbances_are_told_by_slide_too(seen):
    clean = [seen(source_sha256=k) for k in "abc"]
    one = [seen("calcinosis_cutis", source_sha256="a"), seen(source_sha256="b"), seen(source_sha256="c")]
    check = flips("x", clean, [one, one], 0.02, 2)
    assert "2 of 6 looks at 3 slides = 33.3 %; in any of them 1 of 3 = 33.3 % (0.8 to 90.6 %)" in check.figure


def test_glass_in_review_for_its_size_is_right_only_without_a_lesion(seen):
    # Bug: bare glass called calcium passed as long as it was in review for too little tissue.
    (glass,) = (trial for trial in NEGATIVES if trial.name == "blank_glass")
    small = {"status": "review", "reasons": ("little_tissue",)}
    for label, outcome in (("normal", "pass"), ("calcinosis_cutis", "fail")):
        (check,) = glass.judge(None, {"glass": [seen(label, **small)] * 30})
        assert check.outcome == outcome


def test_slides_of_other_attempts_are_no_pair(seen):
    assert pairs([seen(), seen()], [seen(attempt=1), seen()]) == [(seen(), seen())]


def test_review_for_size_is_no_abstention(seen):
    assert not seen(status="review", reasons=("little_tissue",)).abstains
    assert seen(status="review", reasons=("little_tissue", "uncertain")).abstains
    assert seen(None, "refused", ("no_tissue",)).abstains


def test_a_false_call_in_review_counts_unless_review_is_right(seen):
    every = [seen()] * 28 + [seen("calcinosis_cutis"), seen("calcinosis_cutis", "review", ("uncertain",))]

    def wrong(s):
        return s.label == "calcinosis_cutis"

    strict, lenient = (false_calls("x", every, wrong, 1 / 30, 30, review) for review in (True, False))
    assert (strict.outcome, lenient.outcome) == ("fail", "pass")
    assert "1 confident, 1 in review" in strict.figure


def test_areas(seen):
    one, two = seen(area_mm2={"bone": 0.1}), seen(area_mm2={"bone": 0.06, "calcification": 0.03})
    assert area_changes([one, seen()], [two, one]) == pytest.approx([0.1])
    assert area_cv([[one, seen()], [two, seen()]]) == pytest.approx([0.005 / 0.095])


def test_balanced_accuracy_weighs_labels_alike(seen):
    truth = ["normal"] * 3 + ["calcinosis_cutis"]
    assert balanced_accuracy([seen(), seen(), seen(None), seen("calcinosis_cutis")], truth) == pytest.approx(5 / 6)
    assert balanced_accuracy([None], ["normal"]) is None


def test_change_of_p_is_the_largest(seen):
    a, b = seen(probability={"x": 0.9, "y": 0.1}), seen(probability={"x": 0.7, "y": 0.25, "z": 0.05})
    assert change_of_p(a, b) == pytest.approx(0.2)
    assert change_of_p(a, seen(None, probability={})) == 1.0


@pytest.mark.parametrize("d50", [80.0, 150.0, 260.0])
def test_the_logistic_curve_finds_its_middle(d50):
    rng = np.random.default_rng(1)
    sizes = np.repeat([50.0, 100, 150, 200, 300, 500], 60)
    found = rng.random(len(sizes)) < 1 / (1 + np.exp(-4 * np.log(sizes / d50)))
    middle, high = psychometric(sizes.tolist(), found.tolist())
    assert middle == pytest.approx(d50, rel=0.12)
    assert high == pytest.approx(d50 * 19**0.25, rel=0.25)


def test_a_curve_that_does_not_rise_is_flat():
    """Regression: a model that found every needle had no d95, and failed."""
    assert psychometric([50.0, 100.0], [True, True]) == (50.0, 50.0)
    assert psychometric([50.0] * 30 + [500.0] * 30, [True] * 59 + [False]) == (50.0, 50.0)
    assert psychometric([50.0, 100.0], [False, False]) == (None, None)
    assert psychometric([], []) == (None, None)
