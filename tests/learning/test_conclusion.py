"""What the report of a training says of its own figures."""

import json
from pathlib import Path
from types import SimpleNamespace

from histo.data.identities import LEARNT_FROM, START_CALIBRATED_ON, STARTED_FROM, identities
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.learning.conclusion import _by_fold, _flattered, _known
from histo.learning.scores import Held


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
