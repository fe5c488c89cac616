import csv
import json

from histo.data.identities import hashed_patient
from histo.evaluation.banners import banners_of
from histo.evaluation.cases import read_cohort
from histo.evaluation.training_record import sides_of


def codes(cohort, sides=None):
    return [b.code for b in banners_of(cohort, sides, None)]


def test_few_slides_missing_patients_and_review_are_told(make_cohort, made):
    slides = [made("normal", "normal", patient=""), made("calcinosis_cutis", "normal", "review")]
    found = codes(read_cohort(*make_cohort(slides)))
    assert found.count("few_positives") == 3
    assert {"patient_missing", "many_in_review", "training_slides_unknown"} <= set(found)
    assert "synthetic" not in found


def test_slides_without_a_verdict_are_told(make_cohort, made):
    slides = [made("normal", "normal"), made("normal", None, "failed"), made("normal", None, "missing")]
    found = {b.code: b for b in banners_of(read_cohort(*make_cohort(slides)), [], None)}
    assert "1 failed, 1 missing" in found["without_verdict"].text
    assert found["without_verdict"].red
    assert "one_label" in found


def test_phantoms_are_synthetic(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    known = dict.fromkeys(("format", "kind", "seed", "domain", "patient_seed"), 1)
    (manifest.parent / "s0.json").write_text(json.dumps(known))
    assert "partly_synthetic" in codes(read_cohort(out, manifest))
    (manifest.parent / "s1.json").write_text(json.dumps(known))
    assert codes(read_cohort(out, manifest))[0] == "synthetic"


def test_slides_of_the_training_are_found_by_its_splits_file(make_cohort, made, tmp_path):
    out, manifest = make_cohort([made("normal", "normal") for _ in range(3)])
    cohort = read_cohort(out, manifest)
    size = cohort.cases[0].record.path.stat().st_size
    run = tmp_path / "run"
    (run / "bundle").mkdir(parents=True)
    assert sides_of(run / "bundle", {}) is None
    rows = [["s0", "p0", size, "train"], ["s1", "p9", 12345, "validation"], ["x", "p2", 1, "validation"]]
    with open(run / "splits.csv", "w", newline="") as file:
        csv.writer(file).writerows([["slide", "patient", "bytes", "split"], *rows])
    sides = sides_of(run / "bundle", None)
    found = codes(cohort, sides)
    assert "trained_on" in found
    # s1 is another slide of the same name; p2 is the same patient.
    assert "patient_in_training" in found
    assert "tuned_on_test" not in found
    assert "training_slides_unknown" not in found


def test_slides_marked_as_training_slides_are_no_test_slides(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal", extra=(("split", "validation"),))])
    assert "tuned_on_test" in codes(read_cohort(out, manifest), [])


def test_a_card_that_lists_its_slides_is_believed(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", None, "missing")])
    cohort = read_cohort(out, manifest)
    known = {"slides_sha256": [cohort.cases[0].result.sha256], "patients_sha256": []}
    assert "trained_on" in codes(cohort, sides_of(None, {"learnt_from": known}))
    assert "trained_on" in codes(cohort, sides_of(None, {"start_learnt_from": known}))
    assert "tuned_on_test" in codes(cohort, sides_of(None, {"calibrated_on": known}))
    others = {"slides_sha256": ["00"], "patients_sha256": [hashed_patient("p1")]}
    found = codes(cohort, sides_of(None, {"learnt_from": others}))
    assert "patient_in_training" in found
    assert "trained_on" not in found
