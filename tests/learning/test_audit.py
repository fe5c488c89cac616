from pathlib import Path

import numpy as np
import pytest

from histo.data.records import SlideRecord
from histo.learning.audit import audit

LABELS = ("normal", "calcinosis_cutis", "heterotopic_ossification")


def cohort(count, ink_on=None, sites=None, suffix=".svs", per_patient=1):
    """Return records and traits of `count` patients, labels in turn; ink is noise but on the label `ink_on`."""
    rng = np.random.default_rng(5)
    records, traits = [], []
    for i in range(count):
        label = LABELS[i % 3]
        ink = rng.uniform(0.2, 0.3) if label == ink_on else rng.uniform(0, 0.05)
        for k in range(per_patient):
            site = sites(label, i) if sites else None
            records.append(SlideRecord(f"s{i}-{k}", Path(f"s{i}-{k}{suffix}"), f"p{i}", label, site=site))
            traits.append({"share of ink": ink, "tissue area (mm²)": rng.uniform(5, 20)})
    return records, traits


def looked(records, traits, judged=None):
    whole = [(r.patient, r.label) for r in records]
    return audit(records, traits, LABELS, whole, whole if judged is None else judged, seed=0)


def test_planted_ink_is_warned_of():
    found = looked(*cohort(24, ink_on="heterotopic_ossification"))
    told = [w for w in found.warnings if "shortcut" in w]
    assert len(told) == 1
    assert "'share of ink' alone tells heterotopic_ossification" in told[0]
    assert "AUROC 1.00" in told[0]
    assert found.shortcuts[0].name == "share of ink"


def test_slides_that_differ_in_nothing_give_no_such_warning():
    assert not [w for w in looked(*cohort(24)).warnings if "shortcut" in w]


def test_many_sections_of_few_patients_prove_nothing():
    """Thirty slides of three patients: the label goes with anything that a patient has."""
    found = looked(*cohort(3, ink_on="normal", per_patient=10))
    assert not [w for w in found.warnings if "shortcut" in w]


def test_few_patients_are_told_with_their_interval():
    told = looked(*cohort(12)).warnings
    assert [w for w in told if "Only 4 patients of 4 with the label normal were held out" in w and "0.40" in w]
    assert not [w for w in looked(*cohort(60)).warnings if "Only" in w]


def test_patients_who_were_not_held_out_prove_nothing():
    """Regression: of 20 patients with a label 5 were judged, and the warning counted all 20."""
    records, traits = cohort(60)
    told = looked(records, traits, [(f"p{i}", LABELS[i % 3]) for i in range(15)]).warnings
    assert [w for w in told if "Only 5 patients of 20 with the label normal were held out" in w and "0.48" in w]
    assert (
        "No patient with the label normal was held out: nothing is judged of it."
        in looked(records, traits, []).warnings
    )


def test_a_label_without_any_patient_is_told():
    """Regression: only labels that occur were counted: a model without one slide of bone gave no warning of it."""
    records, traits = cohort(60)
    kept = [k for k, r in enumerate(records) if r.label != "heterotopic_ossification"]
    told = looked([records[k] for k in kept], [traits[k] for k in kept]).warnings
    assert [w for w in told if w.startswith("No patient has the label heterotopic_ossification")]


def test_labels_that_go_with_the_site_are_told():
    tied = looked(*cohort(24, sites=lambda label, i: "A" if label == "normal" else "B"))
    assert [w for w in tied.warnings if "Labels and sites go together" in w]
    assert [w for w in tied.warnings if "All patients with the label normal come from one site (A)" in w]
    spread = looked(*cohort(24, sites=lambda label, i: "AB"[i // 3 % 2]))
    assert not [w for w in spread.warnings if "site" in w]


@pytest.mark.parametrize("count", [1, 2])
def test_one_label_or_two_slides_do_not_break_it(count):
    assert looked(*cohort(count)).warnings
