from pathlib import Path

import numpy as np
import pytest

from histo.data.manifest import SlideRecord
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


def test_planted_ink_is_warned_of():
    found = audit(*cohort(24, ink_on="heterotopic_ossification"), seed=0)
    told = [w for w in found.warnings if "shortcut" in w]
    assert len(told) == 1
    assert "'share of ink' alone tells heterotopic_ossification" in told[0]
    assert "AUROC 1.00" in told[0]
    assert found.shortcuts[0].name == "share of ink"


def test_slides_that_differ_in_nothing_give_no_such_warning():
    assert not [w for w in audit(*cohort(24), seed=0).warnings if "shortcut" in w]


def test_many_sections_of_few_patients_prove_nothing():
    """Thirty slides of three patients: the label goes with anything that a patient has."""
    found = audit(*cohort(3, ink_on="normal", per_patient=10), seed=0)
    assert not [w for w in found.warnings if "shortcut" in w]


def test_few_patients_are_told_with_their_interval():
    told = audit(*cohort(12), seed=0).warnings
    assert [w for w in told if "Only 4 patients with the label normal" in w and "0.40" in w]
    assert not [w for w in audit(*cohort(60), seed=0).warnings if "Only" in w]


def test_labels_that_go_with_the_site_are_told():
    tied = audit(*cohort(24, sites=lambda label, i: "A" if label == "normal" else "B"), seed=0)
    assert [w for w in tied.warnings if "Labels and sites go together" in w]
    assert [w for w in tied.warnings if "All patients with the label normal come from one site (A)" in w]
    spread = audit(*cohort(24, sites=lambda label, i: "AB"[i // 3 % 2]), seed=0)
    assert not [w for w in spread.warnings if "site" in w]


@pytest.mark.parametrize("count", [1, 2])
def test_one_label_or_two_slides_do_not_break_it(count):
    assert audit(*cohort(count), seed=0).warnings
