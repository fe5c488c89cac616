"""What a report pins: the slides, their labels and outlines, and the patients that nobody learnt from."""

import json

from histo.data.identities import hashed_patient
from histo.data.slide_file import sha256_of
from histo.evaluation.cases import read_cohort
from histo.evaluation.freeze import partitions, reference
from histo.evaluation.training_record import Side

BONE, SPOT = ("bone", (800.0, 800.0, 400.0)), ("calcification", (1500.0, 1500.0, 240.0))
HO, CC = "heterotopic_ossification", "calcinosis_cutis"
PHANTOM = dict.fromkeys(("format", "kind", "seed", "domain", "patient_seed"), 1)


def side(name, *patients, is_file=True):
    files = frozenset({("x", 1)}) if is_file else frozenset()
    return Side(name, files, frozenset(), frozenset(map(hashed_patient, patients)))


def test_slides_and_outlines_are_pinned_in_whatever_order(make_cohort, made):
    out, manifest = make_cohort([made(HO, HO, truth=(BONE,)), made(CC, CC, truth=(SPOT,)), made("normal", "normal")])
    before = reference(read_cohort(out, manifest))
    head, *rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join([head, *rows[::-1]]))
    after = reference(read_cohort(out, manifest))
    assert after["manifest_sha256"] != before["manifest_sha256"]
    for pinned in ("slides_sha256", "outlines_sha256"):
        assert after[pinned] == before[pinned]
    (manifest.parent / "s0.geojson").write_text((manifest.parent / "s0.geojson").read_text() + " ")
    assert reference(read_cohort(out, manifest))["outlines_sha256"] != before["outlines_sha256"]


def test_another_label_or_slide_is_another_reference(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", None, "missing")])
    before = reference(read_cohort(out, manifest))["slides_sha256"]
    manifest.write_text(manifest.read_text().replace("p0,normal", f"p0,{CC}"))
    relabelled = reference(read_cohort(out, manifest))["slides_sha256"]
    (manifest.parent / "s1.svs").write_text("another slide")
    unexamined = reference(read_cohort(out, manifest))["slides_sha256"]
    (manifest.parent / "s0.svs").write_text("a third slide")
    file = out / "slides" / "s0" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": sha256_of(manifest.parent / "s0.svs")}))
    assert len({before, relabelled, unexamined, reference(read_cohort(out, manifest))["slides_sha256"]}) == 4


def test_patients_on_both_sides_are_counted(make_cohort, made):
    cohort = read_cohort(*make_cohort([made("normal", "normal"), made("normal", "normal")]))
    for sides, shared, said in (
        (None, None, "not on record"),
        ([side("train", "p9")], 0, "none of 2 patients is among the 1 on record"),
        ([side("train", "p9", "P1"), side("validation", "p1")], 1, "1 of 2 patient codes stand in the record"),
    ):
        found = partitions(cohort, sides)
        assert found["shared_patient_codes"] == shared
        assert said in found["sentence"]


def test_patients_of_phantoms_are_not_compared(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal")])
    (manifest.parent / "s0.json").write_text(json.dumps(PHANTOM))
    found = partitions(read_cohort(out, manifest), [side("train", "p0")])
    assert found["shared_patient_codes"] == 0
    assert found["sentence"].startswith("patients were not compared")


def test_a_training_learnt_from_the_patients_that_its_own_file_lists_for_that(make_cohort, made):
    cohort = read_cohort(*make_cohort([made("normal", "normal")]))
    card = side("train", "a", "b", "c", is_file=False)  # lists those that only chose the epoch, too
    file = [side("train", "a", "b"), side("validation", "c")]
    assert partitions(cohort, [card, *file])["patients_learnt_from"] == 2
    assert partitions(cohort, [card])["patients_learnt_from"] == 3
    assert partitions(cohort, [side("calibration", "d")])["patients_learnt_from"] is None
