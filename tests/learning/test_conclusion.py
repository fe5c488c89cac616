"""What the report of a training says of its own figures."""

import json
from pathlib import Path
from types import SimpleNamespace

from histo.data.identities import LEARNT_FROM, START_CALIBRATED_ON, STARTED_FROM, identities
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.learning.conclusion import (
    _by_fold,
    _few_reference,
    _figures,
    _flattered,
    _how_trained,
    _known,
    _slides,
    _suspicious,
)
from histo.learning.scores import Held, Suspect
from histo.results import ENOUGH_REFERENCES


def test_the_start_knows_slides_by_file_and_persons_by_name(tmp_path: Path) -> None:
    """Regression: the report went by names alone, and warned of phantoms that nobody had seen."""
    slides, held = [], []
    for name, patient in (("seen", "p1"), ("new", "p2"), ("phantom", "p2"), ("learnt", "p3"), ("aside", "p2")):
        (tmp_path / f"{name}.svs").write_text(name)
        slides.append(SimpleNamespace(record=SlideRecord(name, tmp_path / f"{name}.svs", patient, "normal")))
        held.append(SimpleNamespace(slide=name))
    facts = {"format": 1, "kind": "bone", "seed": 1, "domain": "train", "patient_seed": 2}
    (tmp_path / "phantom.json").write_text(json.dumps(facts))
    training = {
        STARTED_FROM: identities([sha256_of(tmp_path / "seen.svs")], ["p2"]), LEARNT_FROM: identities([], ["p3"])
    }  # fmt: skip
    assert [r.slide for r in _known(training, held[:4], slides)] == ["seen", "new"]
    assert _known({}, held, slides) == []
    # Regression: folds keep the start's slide scores, and nobody said that these were fitted on what is held out.
    training = {START_CALIBRATED_ON: identities([sha256_of(tmp_path / "aside.svs")], [])}
    assert [r.slide for r in _known(training, held, slides)] == ["aside"]


def test_slides_that_the_start_has_seen_are_told() -> None:
    known = [SlideRecord(name, Path(f"{name}.svs"), "p", "normal") for name in ("s1", "s2", "s3", "s4")]
    (told,) = _flattered(known, True)
    assert "has learnt from, or was calibrated on, 4 of the slides that were held out" in told
    assert "(s1, s2, s3 …)" in told
    assert len(_flattered([], False)) == 1
    assert _flattered([], True) == []


def test_the_report_tells_what_each_site_held_out_came_to() -> None:
    """Regression: after leaving out each site once the report had no word of sites."""
    rows = [
        Held(f"s{k}", "p", "normal", verdict, "review" if k == 1 else "done", "", f"without site {site}", {})
        for k, (verdict, site) in enumerate((("normal", "A"), ("normal", "A"), ("calcinosis_cutis", "B")))
    ]
    (section,) = _by_fold(rows)
    assert [row[:3] + row[4:] for row in section.table[1:]] == [
        ["without site A", "2", "2", "1"],
        ["without site B", "1", "0", "0"],
    ]
    assert _by_fold([]) == []


def test_a_limit_of_few_patients_is_told_however_many_slides_they_have() -> None:
    assert _few_reference(SimpleNamespace(limit_patients=ENOUGH_REFERENCES)) == []
    (few,) = _few_reference(SimpleNamespace(limit_patients=ENOUGH_REFERENCES - 1, held_out_slides=1000))
    assert f"is set by {ENOUGH_REFERENCES - 1} patients" in few
    (none,) = _few_reference(None)
    assert "is set by no patient" in none


def test_only_labels_that_are_contradicted_are_shown_as_suspicious() -> None:
    held = Held("s1", "p", "normal", "normal", "done", "", "fold 1", {})
    section = _suspicious(
        [Suspect(held, "calcinosis_cutis", -0.2), Suspect(held, "calcinosis_cutis", 0.3)], "validation"
    )
    assert [row[-1] for row in section.table[1:]] == ["-0.20"]
    section = _suspicious([Suspect(held, "calcinosis_cutis", 0.3)], "validation")
    assert section.table == ()
    assert "No label is contradicted." in section.paragraphs


def test_balanced_accuracy_is_over_the_labels_that_were_held_out() -> None:
    found = [("normal", "normal"), ("normal", "calcinosis_cutis"), ("calcinosis_cutis", "calcinosis_cutis")]
    rows = [Held("s", "p", label, verdict, "done", "", "fold 1", {}) for label, verdict in found]
    section = _figures(rows, ("normal", "heterotopic_ossification", "calcinosis_cutis"), "validation")
    assert "balanced accuracy 0.75 over 2 of 3 labels, 0 of them sent to review" in section.paragraphs[0]
    assert [row[:3] for row in section.table[1:]] == [["normal", "2", "1"], ["calcinosis_cutis", "1", "1"]]


def test_the_table_of_slides_counts_every_patient_once() -> None:
    config = SimpleNamespace(classes=SimpleNamespace(labels=("normal",)))
    slides = [
        SimpleNamespace(record=SlideRecord(name, Path(name), patient, "normal"), diagnosis_only=weak)
        for name, patient, weak in (("a", "p1", True), ("b", "p1", False), ("c", "p2", False))
    ]
    assert _slides(config, slides[:2], slides[2:]).table[1] == ["normal", "2", "2", "1", "1"]


def test_the_report_says_whose_weights_are_kept() -> None:
    training = {"started": "from its start", "best_epoch": 0}
    assert "No epoch was better" in _how_trained(training)
    assert "The best epoch on the validation patients was number 4" in _how_trained(training | {"best_epoch": 4})
