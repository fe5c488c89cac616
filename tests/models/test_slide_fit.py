"""Slide scores fitted on simulated tables: right where the truth is known, refused where there is too little."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from histo.models.reliability import bins_of, measure_reliability, slope_and_intercept
from histo.models.slide_fit import SIZES, ScoredSlide, fit_class, fit_curve, fit_slides, too_few
from histo.models.slide_scores import Method
from histo.models.verdict import label_probability
from histo.results import ClassRule
from histo.statistics import calibration_errors

BONE = ClassRule("bone", (1, 2, 3), 0.02, "heterotopic_ossification")
CALCIUM = ClassRule("calcification", (4, 5, 6), 0.005, "calcinosis_cutis")
RULES = (BONE, CALCIUM)


def table(patients: int, seed: int, slides_each: int = 1, gain: float = 2.0) -> list[ScoredSlide]:
    """Return slides of patients whose labels follow from two evidences that are `gain` times too sure."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(patients):
        for _ in range(slides_each):
            bone, calcium = rng.normal(-1, 3), rng.normal(0, 3)
            has_bone, has_calcium = rng.random() < expit(bone), rng.random() < expit(calcium)
            label = BONE.verdict if has_bone else CALCIUM.verdict if has_calcium else "normal"
            present = {"bone": has_bone} | ({} if has_bone else {"calcification": has_calcium})
            evidence = {"bone": float(gain * bone), "calcification": float(gain * calcium)}
            found.append(ScoredSlide(f"p{number}", label, evidence, present))
    return found


# Curves


def test_platt_finds_the_slope_that_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 3, 6000)
    present = rng.random(6000) < expit(x)
    a, b, c = fit_curve(3 * x - 4, present, "platt", np.ones(len(x)))
    assert a == b
    assert (a, c) == (pytest.approx(1 / 3, rel=0.06), pytest.approx(4 / 3, rel=0.12))


def test_beta_finds_a_curve_that_platt_cannot() -> None:
    rng = np.random.default_rng(1)
    s = rng.uniform(0.001, 0.999, 8000)
    present = rng.random(8000) < expit(2.0 * np.log(s) - 0.5 * np.log(1 - s) + 1)
    a, b, c = fit_curve(logit(s), present, "beta", np.ones(len(s)))
    assert (a, b, c) == (pytest.approx(2, abs=0.3), pytest.approx(0.5, abs=0.15), pytest.approx(1, abs=0.3))


@given(
    st.lists(st.tuples(st.floats(-9.2, 9.2), st.booleans()), min_size=1, max_size=60),
    st.sampled_from(get_args(Method)),
)
@settings(max_examples=40)
def test_any_table_gives_a_finite_curve_that_never_falls(rows: list[tuple[float, bool]], method: Method) -> None:
    evidence, present = np.array([e for e, _ in rows]), np.array([there for _, there in rows])
    a, b, c = fit_curve(evidence, present, method, np.ones(len(rows)))
    assert all(map(math.isfinite, (a, b, c)))
    assert min(a, b) >= 0


def test_a_patient_with_many_slides_counts_once() -> None:
    # Bug: one odd patient with forty slides moved the curve of twenty others.
    rng = np.random.default_rng(3)
    evidence = rng.normal(0, 3, 40)
    present, patients = rng.random(40) < expit(evidence), [f"p{k}" for k in range(40)]
    once, _ = fit_class(np.append(evidence, 6.0), np.append(present, False), [*patients, "odd"])
    often, _ = fit_class(
        np.append(evidence, [6.0] * 40), np.append(present, np.zeros(40, bool)), [*patients, *["odd"] * 40]
    )
    assert (often.a, often.c) == (pytest.approx(once.a, abs=1e-3), pytest.approx(once.c, abs=1e-3))


def test_classes_told_apart_without_an_error_are_not_taken_for_certain() -> None:
    evidence = np.array([-9.2] * 15 + [9.2] * 15)
    found, _ = fit_class(evidence, evidence > 0, [str(i) for i in range(30)])
    assert 0.9 < found.probability(9.2) < 0.985
    assert 0.015 < found.probability(-9.2) < 0.1


def test_before_is_what_the_model_said_before() -> None:
    """Regression: raw evidence stood as "before", and a calibration that made it worse was told as a gain."""
    rng = np.random.default_rng(3)
    present = np.repeat([True, False], 40)
    evidence, who = rng.normal(present * 3.0, 1), [str(i) for i in range(80)]
    first, _ = fit_class(evidence, present, who)
    again, _ = fit_class(evidence, present, who, current=first)
    given = np.array([first.probability(e) for e in evidence])
    assert again.before.brier == pytest.approx(((given - present) ** 2).mean(), abs=1e-4)
    assert again.before.brier < first.before.brier
    assert again.after == first.after


def test_the_number_of_patients_chooses_the_method_not_the_fit() -> None:
    rng = np.random.default_rng(2)
    for patients, method in ((49, "platt"), (50, "beta")):
        present = np.repeat([True, False], 2 * patients)
        who = [f"{there}{i % patients}" for i, there in enumerate(present)]
        found, _ = fit_class(rng.normal(present * 2.0, 1), present, who)
        assert found.method == method
        assert (found.patients_with, found.slides_with) == (patients, 2 * patients)


def test_no_slide_is_judged_by_a_fit_with_its_patient() -> None:
    """What is changed on a patient's slides leaves the fit of his fold as it was, and moves those of all others."""
    rng = np.random.default_rng(4)
    present = np.repeat(rng.random(40) < 0.5, 2)
    evidence = rng.normal(present * 2.0 - 1, 1.5)
    who = [f"p{i // 2}" for i in range(80)]
    other = evidence.copy()
    other[:2] += 4
    here, there = (fit_class(e, present, who)[1] for e in (evidence, other))
    same = here == there
    assert same.sum() == 2 * 4 - 2  # a tenth of forty patients, without him
    assert not same[:2].any()


# A table of slides


def test_fitted_probabilities_are_better_than_the_evidence_and_measured_above_chance() -> None:
    slides, conformal = fit_slides(table(300, 5), RULES, "normal", "Test.")
    assert slides.refused == ()
    assert conformal is not None
    for one in slides.classes.values():
        assert one.method == "beta"
        assert one.after.brier < one.before.brier
        assert one.after.ece_debiased < one.before.ece_debiased
        assert one.after.ece_debiased < 0.03
        assert one.after.slope == pytest.approx(1, abs=0.25)
        assert sum(b.slides for b in one.after.bins) == one.after.slides == one.slides_with + one.slides_without
    assert slides.classes["calcification"].after.slides < 300  # nothing is known of it where there is bone


@pytest.mark.parametrize("seed", [6, 7])
def test_sets_cover_new_slides_of_every_label(seed: int) -> None:
    slides, conformal = fit_slides(table(250, seed), RULES, "normal", "Test.")
    assert conformal is not None
    hit: dict[str, list[bool]] = {}
    for s in table(1500, seed + 100):
        presence = [slides.classes[r.name].probability(s.evidence[r.name]) for r in RULES]
        left = conformal.not_excluded(label_probability(presence, RULES, "normal"))
        hit.setdefault(s.label, []).append(s.label in left)
    for label, hits in hit.items():
        # Realised coverage of one calibration scatters; 0.95 holds over many.
        assert np.mean(hits) > 0.88, label


def test_sets_are_fitted_on_the_slides_that_they_are_promised_for() -> None:
    """Regression: slides that a check speaks against, of which no diagnosis is excluded, set the bounds as well."""
    rows = table(120, 8)
    clear = [replace(s, patient=f"clear {s.patient}", exclusions_hold=False) for s in rows]
    slides, conformal = fit_slides([*rows, *clear], RULES, "normal", "Test.")
    assert conformal is not None
    assert sum(bound.patients for bound in conformal.labels.values()) == 120
    assert slides.patients == 240


def test_a_patient_counts_once_with_his_worst_slide() -> None:
    one = table(120, 8)
    twice = [*one, *one]
    _, first = fit_slides(one, RULES, "normal", "Test.")
    _, second = fit_slides(twice, RULES, "normal", "Test.")
    assert first is not None
    assert second is not None
    assert {k: b.patients for k, b in first.labels.items()} == {k: b.patients for k, b in second.labels.items()}


def test_too_few_patients_are_refused_with_the_numbers_and_the_rest_is_fitted() -> None:
    rows = table(200, 9)
    few = [s for s in rows if s.present["bone"]][:9] + [s for s in rows if not s.present["bone"]]
    slides, conformal = fit_slides(few, RULES, "normal", "Test.")
    assert set(slides.classes) == {"calcification"}
    assert conformal is None
    assert slides.refused[0].startswith("bone is not calibrated: 9 patients with and ")
    assert "does not say whether" not in slides.refused[0]
    assert slides.refused[1] == "No sets of diagnoses: they need every class calibrated."
    lower, _ = fit_slides(few, RULES, "normal", "Test.", replace(SIZES, platt=5))
    assert set(lower.classes) == {"bone", "calcification"}


def test_of_two_classes_with_one_label_the_cause_is_told() -> None:
    rules = (replace(BONE, name="woven"), replace(BONE, name="lamellar"), CALCIUM)
    present = [{"calcification": True, "woven": False, "lamellar": False}] * 12
    told = too_few(rules, present, [f"p{k}" for k in range(12)])
    assert "The label heterotopic_ossification does not say whether it is woven or lamellar." in told["woven"]
    assert "does not say" not in told["calcification"]


def test_evidence_that_says_the_contrary_is_refused() -> None:
    rows = [replace(s, evidence={k: -v for k, v in s.evidence.items()}) for s in table(150, 10)]
    slides, conformal = fit_slides(rows, RULES, "normal", "Test.")
    assert (slides.classes, conformal) == ({}, None)
    assert "no higher on slides that have it" in slides.refused[0]


def test_the_order_of_the_slides_is_nothing() -> None:
    rows = table(80, 11)
    assert fit_slides(rows, RULES, "normal", "T")[0].classes["bone"].a == pytest.approx(
        fit_slides(rows[::-1], RULES, "normal", "T")[0].classes["bone"].a, abs=1e-4
    )


# Reliability


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_the_floor_is_the_error_that_a_perfect_model_shows_by_chance(n: int) -> None:
    """All slides at 0.5 fall into one bin, and the mean deviation of a share from 0.5 is known."""
    found = measure_reliability(np.full(n, 0.5), np.arange(n) % 2 == 0)
    assert found.ece == pytest.approx(0)
    assert found.ece_floor == pytest.approx(0.5 * math.sqrt(2 / (math.pi * n)), rel=0.12)
    assert found.ece_debiased == 0


def test_a_perfect_model_has_no_error_above_chance_and_a_sure_liar_has() -> None:
    rng = np.random.default_rng(13)
    p = rng.random(2000)
    there = rng.random(2000) < p
    honest = measure_reliability(p, there)
    assert honest.ece_debiased < 0.015
    assert (honest.slope, honest.intercept) == (pytest.approx(1, abs=0.15), pytest.approx(0, abs=0.15))
    sure = measure_reliability(expit(3 * logit(p)), there)
    assert sure.ece_debiased > 0.1
    assert sure.slope == pytest.approx(1 / 3, abs=0.05)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_bins_hold_every_slide_once_and_the_error_is_theirs(rows: list[tuple[float, bool]]) -> None:
    p, there = np.array([x for x, _ in rows]), np.array([y for _, y in rows])
    bins = bins_of(p, there)
    assert sum(b.slides for b in bins) == len(rows)
    told = sum(b.slides * abs((b.share_present or 0) - (b.mean_probability or 0)) for b in bins) / len(rows)
    assert calibration_errors(p, there[None])[0] == pytest.approx(told, abs=1e-9)


def test_probabilities_of_0_and_1_break_nothing() -> None:
    slope, intercept = slope_and_intercept(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert math.isfinite(slope)
    assert math.isfinite(intercept)
