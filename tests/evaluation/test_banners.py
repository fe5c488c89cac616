import csv
import json
import re
from dataclasses import replace

from histo.data.identities import hashed_patient
from histo.data.splits import HELD_OUT
from histo.evaluation.banners import banners_of
from histo.evaluation.cases import read_cohort
from histo.evaluation.training_record import Side, sides_of
from histo.statistics import ENOUGH_TO_TELL

LABELS = ("normal", "calcinosis_cutis", "heterotopic_ossification")


def codes(cohort, sides=None):
    return [b.code for b in banners_of(cohort, sides, None)]


def test_few_slides_missing_patients_and_review_are_told(make_cohort, made):
    slides = [made("normal", "normal", patient=""), made("calcinosis_cutis", "normal", "review")]
    found = codes(read_cohort(*make_cohort(slides)))
    assert found.count("few_positives") == 2
    assert "label_missing" in found
    assert {"patient_missing", "many_in_review", "training_slides_unknown"} <= set(found)
    assert "synthetic" not in found


def test_slides_without_a_verdict_are_told(make_cohort, made):
    slides = [made("normal", "normal"), made("normal", None, "failed"), made("normal", None, "missing")]
    found = {b.code: b for b in banners_of(read_cohort(*make_cohort(slides)), [], None)}
    assert re.search(r"\(1 failed: \w+; 1 missing: \w+\)", found["without_verdict"].text)
    assert found["without_verdict"].red
    assert "one_label" in found


def test_another_scale_than_the_manifest_s_is_told(make_cohort, made):
    # Bug: results at the scale that a file records wrongly were judged against truth at the manifest's, without a word.
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    lines = manifest.read_text().splitlines()
    for mpp, told in (("0.51", False), ("1.0", True)):
        manifest.write_text("\n".join([f"{lines[0]},mpp", f"{lines[1]},{mpp}", f"{lines[2]},"]))
        found = {b.code: b for b in banners_of(read_cohort(out, manifest), [], None)}
        assert ("other_scale" in found) == told
    assert "s0: 0.5 and 1 µm per pixel" in found["other_scale"].text


def test_what_a_fold_held_out_is_no_part_of_it(make_cohort, made, tmp_path):
    # Bug: a fold's model was said to be tuned on the very slides that it was not shown.
    cohort = read_cohort(*make_cohort([made("normal", "normal")]))
    (tmp_path / "fold" / "bundle").mkdir(parents=True)
    row = ["s0", "p0", cohort.cases[0].record.path.stat().st_size, HELD_OUT]
    with open(tmp_path / "fold" / "splits.csv", "w", newline="") as file:
        csv.writer(file).writerows([["slide", "patient", "bytes", "split"], row])
    assert "tuned_on_test" not in codes(cohort, sides_of(tmp_path / "fold" / "bundle", {}) or [])


def test_few_patients_with_many_slides_are_few(make_cohort, made):
    """Regression: three patients with 25 slides each had no banner, and an interval from 0.92 on."""
    slides = [made(label, label, patient=f"{label} {k % 3}") for label in LABELS for k in range(25)]
    found = [b for b in banners_of(read_cohort(*make_cohort(slides)), [], None) if b.code == "few_positives"]
    assert len(found) == 3
    assert all("Only 3 patients (25 slides) with the label" in b.text for b in found)


def test_patients_that_may_be_one_are_told(make_cohort, made):
    """Regression: `histo manifest check` asks whether 007 and 7 are one patient; the evaluation counted two."""
    slides = [made("normal", "normal", patient=name) for name in ("7", "007")]
    (text,) = (b.text for b in banners_of(read_cohort(*make_cohort(slides)), [], None) if b.code == "doubtful_patient")
    assert "'007' is '7' in line 2 as a number; are these one patient?" in text


def test_a_column_that_looks_like_one_of_ours_is_told(make_cohort, made):
    """Regression: slides marked `test` in a column `splits` were judged with all others without a word."""
    slides = [made("normal", "normal", extra=(("splits", side),)) for side in ("train", "test")]
    assert "misnamed_column" in codes(read_cohort(*make_cohort(slides)))


def test_results_made_in_several_ways_are_told_with_what_differs(make_cohort, made):
    cohort = read_cohort(*make_cohort([made("normal", "normal"), made("normal", "normal")]))

    def with_settings(*settings):
        cases = [
            replace(c, result=replace(c.result, provenance=replace(c.result.provenance, settings=s)))
            for c, s in zip(cohort.cases, settings, strict=True)
        ]
        return {b.code: b.text for b in banners_of(replace(cohort, cases=tuple(cases)), [], None)}

    told = with_settings({"mode": "full", "mpp": None}, {"mode": "screen", "mpp": 0.5})
    assert "several ways (mode full and screen); run" in told["mixed_settings"]
    # Bug: one run with --mpp-if-missing was "2 settings", whatever one did.
    assert "mixed_settings" not in with_settings({"mode": "full", "mpp": None}, {"mode": "full", "mpp": 0.5})


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
    # Bug: the card lists the slides to learn from and to validate on together, and each was told of twice.
    everything = {"slides_sha256": [c.result.sha256 for c in cohort.cases], "patients_sha256": []}
    told = [b.text for b in banners_of(cohort, sides_of(run / "bundle", {"learnt_from": everything}), None)]
    assert sum(int(text.split()[0]) for text in told if "of the judged slides were" in text) == 3
    # A slide that the file knows by its patient alone is confirmed by its content, which the card knows.
    renamed = [["other", "p0", 1, "train"]]
    with open(run / "splits.csv", "w", newline="") as file:
        csv.writer(file).writerows([["slide", "patient", "bytes", "split"], *renamed])
    first = {"slides_sha256": [cohort.cases[0].result.sha256], "patients_sha256": []}
    assert {"trained_on", "patient_in_training"} <= {*codes(cohort, sides_of(run / "bundle", {"learnt_from": first}))}


def test_slides_marked_as_training_slides_are_no_test_slides(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal", extra=(("split", "validation"),))])
    assert "tuned_on_test" in codes(read_cohort(out, manifest), [])


def test_a_card_that_lists_its_slides_is_believed(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", None, "missing")])
    cohort = read_cohort(out, manifest)
    known = {"slides_sha256": [cohort.cases[0].result.sha256], "patients_sha256": []}
    assert "trained_on" in codes(cohort, sides_of(None, {"learnt_from": known}))
    assert "trained_on" in codes(cohort, sides_of(None, {"start_learnt_from": known}))
    assert "training_slides_unknown" not in codes(cohort, sides_of(None, {"learnt_from": known}))
    for tuned in ("calibrated_on", "reference_of"):
        found = codes(cohort, sides_of(None, {tuned: known}))
        assert "tuned_on_test" in found
        # Regression: a list of what else was done with slides passed for that of the training.
        assert "training_slides_unknown" in found
    others = {"slides_sha256": ["00"], "patients_sha256": [hashed_patient("p1")]}
    found = codes(cohort, sides_of(None, {"learnt_from": others}))
    assert "patient_in_training" in found
    assert "trained_on" not in found
    # Bug: one slide that was trained on hid that all the others are of patients who were.
    both = {"slides_sha256": known["slides_sha256"], "patients_sha256": [hashed_patient(p) for p in ("p0", "p1")]}
    texts = {b.code: b.text for b in banners_of(cohort, sides_of(None, {"learnt_from": both}), None)}
    assert texts["trained_on"].startswith("1 of the judged slides")
    assert texts["patient_in_training"].startswith("1 more of the judged slides")


def test_verdicts_in_review_limit_a_figure_and_do_not_mislead(make_cohort, made):
    found = {b.code: b for b in banners_of(read_cohort(*make_cohort([made("normal", "normal", "review")])), [], None)}
    assert not found["many_in_review"].red


def test_a_patient_with_two_sexes_is_told(make_cohort, made):
    slides = [made("normal", "normal", patient="p", extra=(("sex", sex),)) for sex in ("f", "m")]
    texts = {b.code: b.text for b in banners_of(read_cohort(*make_cohort(slides)), [], None)}
    assert "has sex f and m; are these two patients?" in texts["doubtful_patient"]


def test_as_many_patients_as_are_enough_are_not_few(make_cohort, made):
    slides = [made(label, label) for label in LABELS for _ in range(ENOUGH_TO_TELL)]
    assert "few_positives" not in codes(read_cohort(*make_cohort(slides)))


def test_slides_without_a_patient_count_one_each(make_cohort, made):
    slides = [made("normal", "normal", patient="") for _ in range(3)]
    texts = {b.code: b.text for b in banners_of(read_cohort(*make_cohort(slides)), [], None)}
    assert texts["few_positives"].startswith("Only 3 patients with the label normal")


def test_one_slide_in_ten_without_a_verdict_misleads(make_cohort, made):
    slides = [made("normal", None, "failed"), *[made("normal", "normal") for _ in range(9)]]
    found = {b.code: b for b in banners_of(read_cohort(*make_cohort(slides)), [], None)}
    assert found["without_verdict"].red


def test_slides_marked_train_are_told(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal", extra=(("split", "train"),))])
    assert "trained_on" in codes(read_cohort(out, manifest), [])


def test_a_patient_of_whom_card_and_file_tell_is_told_once(make_cohort, made):
    cohort = read_cohort(*make_cohort([made("normal", "normal")]))
    patients = frozenset({hashed_patient("p0")})
    of_file = Side("validation", frozenset({("x", 1)}), frozenset(), patients)
    of_card = Side("train", frozenset(), frozenset(), patients)
    assert codes(cohort, [of_card, of_file]).count("patient_in_training") == 1


def test_normal_slides_among_others_are_not_all_that_there_is(make_cohort, made):
    assert "one_label" not in codes(read_cohort(*make_cohort([made("normal", "normal"), made(LABELS[1], LABELS[1])])))
