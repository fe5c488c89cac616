import json

import pytest

from histo.errors import UsageError
from histo.evaluation.figures import draw_foreign
from histo.evaluation.other_reports import SCHEMA
from histo.evaluation.robustness import change, robustness


def figure(value, half):
    return {"value": value, "low": value - half, "high": value + half}


@pytest.fixture
def report():
    def make(value, slides, distances, digest="ab", counts=((5, 0), (1, 4))):
        return {
            "schema": SCHEMA,
            "freeze": {"digest": digest},
            "flow": {"slides": 10},
            "reference": {"slides_sha256": slides, "manifest_sha256": "of any"},
            "primary": {
                "labels": ["normal", "ho"],
                "confusion": {"counts": counts},
                "overall": {"balanced_accuracy": figure(value, 0.04)},
            },
            "ranking": {"classes": {"bone": {"auroc": figure(0.9, 0.03)}}},
            "localisation": {"classes": {"bone": {"dice": {"value": None, "patient_low": None, "patient_high": None}}}},
            "abstention": {"decided": figure(0.5, 0.1), "accuracy_on_decided": figure(0.9, 0.05)},
            "foreign": {"distances": distances, "over_limit": figure(0.0, 0.1) | {"hits": 0, "n": len(distances)}},
        }

    return make


def test_the_change_and_what_foreign_tissue_tells(report, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(report(0.9, "home", [0.0, 0.1, 0.2])))
    found = robustness(report(0.7, "away", [0.15, 0.6, 0.7]), tmp_path, None)
    rows = {row["measure"]: row["change"] for row in found["familiar"]["change"]}
    assert rows["balanced accuracy"]["value"] == pytest.approx(-0.2)
    assert rows["balanced accuracy"]["high"] - rows["balanced accuracy"]["low"] == pytest.approx(2 * 0.04 * 2**0.5)
    assert rows["Dice of bone"]["value"] is None
    assert found["familiar"]["foreign_auroc"]["value"] == pytest.approx(8 / 9)
    assert found["stress"] == []
    assert draw_foreign([0.15, 0.6], [0.0]) is not None
    assert draw_foreign([], [0.0]) is None


def test_balanced_accuracies_over_other_labels_are_not_compared(report, tmp_path):
    """Regression: without the slides of the hardest label a model seemed to gain."""
    (tmp_path / "report.json").write_text(json.dumps(report(0.9, "home", [0.0])))
    found = robustness(report(0.95, "away", [0.1], counts=((9, 1), (0, 0))), tmp_path, None)["familiar"]
    assert found["other_labels"]
    assert found["change"][0]["measure"] == "AUROC of bone"


def test_an_interval_that_is_a_point_is_not_taken_for_certainty():
    sure = {"value": 1.0, "low": 0.9, "high": 1.0, "patient_low": 1.0, "patient_high": 1.0}
    other = figure(0.8, 0.1) | {"patient_low": 0.75, "patient_high": 0.85}
    found = change(other, sure)
    assert found["low"] == pytest.approx(-0.2 - 0.1)
    assert found["high"] == pytest.approx(-0.2 + (0.1**2 + 0.1**2) ** 0.5)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("home", [0.1], "cd"), "of another model"),
        (("away", [0.1], "ab"), "the same slides"),
    ],
)
def test_what_cannot_stand_beside_it_is_refused(report, tmp_path, other, said):
    slides, distances, digest = other
    (tmp_path / "report.json").write_text(json.dumps(report(0.9, slides, distances, digest)))
    with pytest.raises(UsageError, match=said):
        robustness(report(0.7, "away", [0.1]), tmp_path, None)


@pytest.mark.parametrize("schema", [None, SCHEMA - 1])
def test_a_report_from_before_is_refused_with_the_way_out(schema, report, tmp_path):
    old = report(0.9, "home", []) | {"schema": schema}
    (tmp_path / "report.json").write_text(json.dumps(old))
    with pytest.raises(UsageError, match="older histo"):
        robustness(report(0.7, "away", [0.1]), tmp_path / "report.json", None)


def test_the_stress_tests_come_from_the_card():
    table = {"summary": "1 test: 1 pass", "tests": {"1 grey": {"outcome": "pass", "figures": {}}}}
    found = robustness({}, None, {"evaluation": {"stress, seed 0": table, "shift": {"slides": 3}}})
    assert found == {"familiar": None, "stress": [{"name": "stress, seed 0", **table}]}
    assert robustness({}, None, {"evaluation": None})["stress"] == []
