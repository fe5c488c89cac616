"""The goals' table: what is asked of which figure; no slide is made here."""

import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from verdict import DIAMETERS_UM, LOOK_ALIKES, Goal, goal, goals, specs

from histo.phantom.cohort import plan_cohort

GIVEN = {"per_class": 100, "mixed": 60, "confounders": 120, "in_domain": 40, "needles": 20, "large_needles": 4}
SIZES = {"size": 3000, "large_size": 8000, "seed": 9101}


def test_the_cohorts_are_those_of_the_issue():
    found = specs(Namespace(**GIVEN, **SIZES))
    shift = plan_cohort(found["shift"])
    kinds = Counter(job.asked["kind"] for job in shift)
    assert {k: kinds[k] for k in ("normal", "calcinosis_cutis", "heterotopic_ossification", "mixed")} == {
        "normal": 100, "calcinosis_cutis": 100, "heterotopic_ossification": 100, "mixed": 60,
    }  # fmt: skip
    assert all(kinds[f"confounder:{name}"] == 10 for name in LOOK_ALIKES)
    assert {job.asked["domain"] for job in shift} == {"shift"}
    assert {job.asked["domain"] for job in plan_cohort(found["domain"])} == {"train"}
    varied = Counter(job.varied for job in plan_cohort(found["needles"]))
    assert {f"calcium.diameter_um={d}" for d in DIAMETERS_UM} == set(varied)
    assert varied["calcium.diameter_um=100"] == 24


def test_a_cohort_without_slides_is_left_out():
    assert list(specs(Namespace(**dict.fromkeys(GIVEN, 0) | {"per_class": 2}, **SIZES))) == ["shift"]


@pytest.mark.parametrize(
    ("least", "value", "low", "high", "met", "proved"),
    [
        (True, 0.98, 0.95, 0.99, True, True),
        (True, 0.95, 0.90, 0.99, True, False),
        (True, 0.90, 0.80, 0.99, False, False),
        (False, 0.90, 0.80, 0.94, True, True),
        (False, 0.90, 0.80, 0.99, True, False),
        (True, None, None, None, None, False),
    ],
)
def test_met_and_proved_are_two_things(least, value, low, high, met, proved):
    row = Goal("x", 0.95, least, value, low, high, 10)
    assert (row.met, row.proved) == (met, proved)
    assert ("MISSED" in row.line) == (met is False)


def test_the_interval_by_patient_stands_in_for_a_missing_one():
    row = goal("Dice", 0.9, {"value": 0.95, "n": 3, "patient_low": 0.91, "patient_high": 0.97})
    assert row.proved
    assert goal("nothing", 0.9, None).met is None


def test_every_goal_of_the_issue_has_its_row():
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    sets = {
        "coverage": share,
        "certified": {"coverage": share, "worst": {"label": "calcinosis_cutis", "coverage": share}},
    }
    lesion = {"dice": share, "area": share | {"median_error": 0.1}}
    shift = {
        "primary": {"overall": {"balanced_accuracy": share}},
        "ranking": {"classes": {"bone": {"auroc": share}, "calcification": {"auroc": share}}},
        "several_classes": {"right": share},
        "false_calls": {"confounders": {"any": share, "confident": share}, "worst": {"kind": "ink", "any": share}},
        "calibration": {"verdict": {"ece": share}, "conformal": sets},
        "abstention": {"review": share},
        "localisation": {
            "false_lesions": {"per_plain_normal_slide": share, "per_normal_slide": share},
            "classes": {"bone": lesion, "calcification": lesion},
            "needles": {"by_diameter": [{"diameter_um": 100.0, "found": share}]},
        },
    }
    names = [g.name for g in goals(dict.fromkeys(("shift", "domain", "needles"), shift))]
    for word in (
        "balanced",
        "AUROC bone",
        "AUROC calcification",
        "mixed",
        "Dice bone",
        "area error",
        "worst",
        "100 µm",
    ):
        assert any(word in name for name in names), word
    assert len(names) == 27
