import numpy as np
import pytest

from histo.evaluation.cases import read_cohort
from histo.evaluation.discrimination import among_judged, difference, primary, ranks, sample_size
from histo.evaluation.intervals import share
from histo.evaluation.resampling import Bootstrap

HO, CC = "heterotopic_ossification", "calcinosis_cutis"


def drawn(cohort):
    return Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200)


@pytest.fixture
def cohort(make_cohort, made):
    """All normal slides right, one of two of bone, none of calcium; 3 + 2 + 4 slides of as many patients."""
    slides = [
        made("normal", "normal"),
        made("normal", "normal"),
        made("normal", "normal", "review"),
        made(HO, HO, "review"),
        made(HO, CC, "review"),
        made(CC, "normal"),
        made(CC, HO),
        made(CC, None, "refused"),
        made(CC, None, "missing"),
    ]
    return read_cohort(*make_cohort(slides))


def test_every_label_has_its_own_figures_and_its_own_interval_by_patient(cohort):
    found = primary(cohort, drawn(cohort))["by_label"]
    own = {label: measures["sensitivity"] for label, measures in found.items()}
    assert {k: (f["hits"], f["n"]) for k, f in own.items()} == {"normal": (3, 3), HO: (1, 2), CC: (0, 4)}
    # Of the two patients with bone a round in four draws the right one twice, and one in four the wrong one.
    by_patient = {k: (f["patient_low"], f["patient_high"]) for k, f in own.items()}
    assert by_patient == {"normal": (1, 1), HO: (0, 1), CC: (0, 0)}
    assert (found[HO]["ppv"]["hits"], found[HO]["ppv"]["n"]) == (1, 2)
    assert (found[CC]["specificity"]["hits"], found[CC]["specificity"]["n"]) == (4, 5)


def test_right_and_wrong_verdicts_are_counted_by_label_and_status(cohort):
    found = primary(cohort, drawn(cohort))["status_by_label"]
    counts = {label: {name: n for name, n in row.items() if n} for label, row in found.items()}
    assert counts == {
        "normal": {"done, right": 2, "review, right": 1},
        HO: {"review, right": 1, "review, wrong": 1},
        CC: {"done, wrong": 2, "refused": 1, "missing": 1},
    }


def test_slides_without_a_verdict_are_not_among_the_judged(cohort):
    found = among_judged(cohort)
    counts = {k: tuple(m[name][x] for name in m for x in ("hits", "n")) for k, m in found.items()}
    assert counts == {"normal": (3, 3, 3, 4), HO: (1, 2, 4, 5), CC: (0, 2, 4, 5)}


def test_a_class_is_ranked_by_its_own_presence(make_cohort, made):
    """What each slide holds follows from its verdict, but one of bone is called normal, with bone at 0.05."""
    slides = [made(HO, HO), made(HO, "normal"), made(CC, CC), made(CC, CC, sure=0.8)]
    slides += [made("normal", "normal", sure=0.8), made("normal", "normal", sure=0.7)]
    cohort = read_cohort(*make_cohort(slides))
    held = [{"bone": k < 2, "calcification": k in (2, 3)} for k in range(6)]
    found = ranks(cohort, held, drawn(cohort))
    areas = {name: figure["auroc"]["value"] for name, figure in found["classes"].items()}
    # Bone at 0.05 stands level with one slide of calcium, and below the three others without bone.
    assert areas == pytest.approx({"bone": 4.5 / 8, "calcification": 1.0})
    areas = {name: figure["auroc"]["value"] for name, figure in found["labels"].items()}
    assert areas == pytest.approx({"normal": 6 / 8, HO: 4.5 / 8, CC: 1.0})


def test_the_size_that_a_label_needs_follows_from_its_own_sensitivity():
    figures = {
        HO: {"sensitivity": share(9, 10)},
        "normal": {"sensitivity": share(0, 0)},
        CC: {"sensitivity": share(36, 36)},
    }
    bone, calcium = sample_size(figures)
    assert (bone["label"], bone["n"], bone["n_for_5_percent"]) == (HO, 10, 158)
    assert bone["half_width"] == pytest.approx(0.221, abs=1e-3)
    said = "sensitivity for heterotopic ossification: interval ± 0.221 from 10 slides; ± 0.05 at that value takes 158"
    assert bone["sentence"] == said
    assert (calcium["label"], calcium["n_for_5_percent"]) == (CC, 36)


def test_the_difference_of_two_judges_is_that_of_their_balanced_accuracies():
    truth, ours, theirs = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), np.array([0, 1, 2, 2])
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 2, 0], [1, 1, 0, 0]])
    assert difference(weights, truth, ours, theirs, 2) == pytest.approx([0.75 - 0.25, 1.0, np.nan], nan_ok=True)
