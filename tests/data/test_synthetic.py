"""Which slides a model knows: by content, and by the names of patients that are people."""

import json
from pathlib import Path

import pytest

from histo.data.identities import Known, identities
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.data.synthetic import is_known_patient, is_phantom, known_by

FACTS = {"format": 1, "kind": "bone", "seed": 1, "domain": "train", "patient_seed": 2}


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, SlideRecord]:
    """A phantom and another slide, both of a patient called `patient_0007`."""
    for name in ("phantom", "person"):
        (tmp_path / f"{name}.svs").write_text(name)
    (tmp_path / "phantom.json").write_text(json.dumps(FACTS))
    return {
        name: SlideRecord(name, tmp_path / f"{name}.svs", "patient_0007", "normal") for name in ("phantom", "person")
    }


def test_a_phantom_is_told_by_the_file_beside_it(pair, tmp_path):
    assert is_phantom(pair["phantom"].path)
    assert not is_phantom(pair["person"].path)
    (tmp_path / "person.json").write_text("[1]")
    assert not is_phantom(pair["person"].path)


def test_the_name_of_a_phantoms_patient_says_nothing(pair):
    """Regression: calibrating the shipped model on any phantoms was refused, for every cohort counts from 0."""
    known = Known.by({"learnt": identities([], ["patient_0007"])}, "learnt")
    assert is_known_patient(known, pair["person"])
    assert not is_known_patient(known, pair["phantom"])
    assert known_by(known, list(pair.values())) == [pair["person"]]


def test_a_file_is_known_whatever_its_patient_is_called(pair):
    known = Known.by({"learnt": identities([sha256_of(pair["phantom"].path)], ["p9"])}, "learnt")
    assert known_by(known, list(pair.values())) == [pair["phantom"]]
