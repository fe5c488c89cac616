"""The whole of `histo evaluate` on a cohort without pixels, and from infer to the page on painted slides."""

import csv
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from histo.archive.examine import RunOptions
from histo.archive.local import run_slides
from histo.cli import app
from histo.data.identities import hashed_patient
from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.evaluate import Options, _apart, _as_trained, _calibration, _faithfulness, _plain, _probe, evaluate, headline
from histo.evaluation.cases import read_cohort
from histo.evaluation.figures import draw_learning_curve
from histo.evaluation.learning_curve import learning_curve
from histo.evaluation.training_record import Side
from histo.models.bundle import load_bundle, save_bundle

BONE, SPOT = ("bone", (800.0, 800.0, 400.0)), ("calcification", (1500.0, 1500.0, 240.0))
HO, CC = "heterotopic_ossification", "calcinosis_cutis"
FILES = ("report.json", "report.html", "claim.csv", "tripod_ai.csv", "stard_ai.csv")
FEW = Options(rounds=100)


@pytest.fixture
def cohort(make_cohort, made):
    needle = (("varied", "calcium.diameter_um=120"), ("kind", CC))
    slides = [
        *[made("normal", "normal", sure=0.8 + 0.01 * k, extra=(("kind", "normal"),)) for k in range(4)],
        made("normal", CC, found=(SPOT,), extra=(("kind", "confounder:ink"),)),
        made(HO, HO, truth=(BONE,), found=(BONE,), extra=(("kind", HO),)),
        made(HO, HO, truth=(BONE, SPOT), found=(BONE, SPOT), extra=(("kind", "mixed"),)),
        made(CC, CC, "review", 0.6, truth=(SPOT,), found=(SPOT,), extra=needle),
        made(CC, "normal", truth=(SPOT,), extra=needle),
        made(CC, None, "refused", truth=(SPOT,)),
        made(CC, None, "missing"),
    ]
    return make_cohort(slides)


def test_nothing_is_dropped_and_every_file_is_written(cohort):
    out, manifest = cohort
    found = evaluate(out, manifest, options=FEW)
    for name in FILES:
        assert (out / "evaluation" / name).is_file()
    kept = json.loads((out / "evaluation" / "report.json").read_text())
    assert sum(map(sum, kept["primary"]["confusion"]["counts"])) == 11
    assert kept["primary"]["by_label"][CC]["sensitivity"]["n"] == 4
    assert kept["primary"]["overall"]["balanced_accuracy"]["value"] == pytest.approx((4 / 5 + 1 + 1 / 4) / 3)
    assert kept["abstention"]["worst_case_accuracy"]["hits"] == 6
    assert kept["several_classes"]["right"]["hits"] == kept["several_classes"]["right"]["n"] == 1
    needle = kept["localisation"]["needles"]["by_diameter"][0]
    assert (needle["diameter_um"], needle["found"]["hits"], needle["found"]["n"]) == (120, 1, 2)
    assert needle["missed_without_review"]["hits"] == 1
    assert kept["false_calls"]["confounders"]["any"]["hits"] == 1
    assert kept["calibration"]["conformal"]["without_set"] == 2
    assert {e["error"] for e in kept["errors"]} == {"false positive", "false negative", "no verdict"}
    assert "balanced accuracy" in "\n".join(headline(found))


def test_models_that_learnt_from_fewer_patients_make_a_learning_curve(cohort, tmp_path):
    out, manifest = cohort
    evaluate(out, manifest, options=FEW)
    report = out / "evaluation" / "report.json"
    told = json.loads(report.read_text())
    with pytest.raises(UsageError, match="does not say how many patients"):
        learning_curve(told, [report])
    folders = []
    for patients, value in ((6, 0.4), (24, 0.8)):
        folder = tmp_path / str(patients)
        folder.mkdir()
        told["partitions"]["patients_learnt_from"] = patients
        told["primary"]["overall"]["balanced_accuracy"]["value"] = value
        told["freeze"]["digest"] = f"of {patients}"
        (folder / "report.json").write_text(json.dumps(told))
        folders.append(folder)
    told["partitions"]["patients_learnt_from"], told["freeze"]["digest"] = 12, "of 12"
    curve = learning_curve(told, folders)
    assert [(p["patients"], p["balanced_accuracy"]["value"]) for p in curve] == [(6, 0.4), (12, 0.8), (24, 0.8)]
    assert draw_learning_curve(curve) is not None
    assert learning_curve(told, []) == []
    with pytest.raises(UsageError, match="in the curve already"):
        learning_curve(told, [*folders, folders[0]])
    other = json.loads((folders[0] / "report.json").read_text())
    other["reference"]["slides_sha256"] = "0"
    (folders[0] / "report.json").write_text(json.dumps(other))
    with pytest.raises(UsageError, match="judges other slides or labels"):
        learning_curve(told, folders)
    with pytest.raises(UsageError, match="is no report"):
        learning_curve(told, [manifest])


def test_the_report_on_familiar_slides_stands_beside_this_one(cohort, tmp_path):
    out, manifest = cohort
    evaluate(out, manifest, tmp_path / "home", FEW)
    away = tmp_path / "away.csv"
    away.write_text("\n".join(manifest.read_text().splitlines()[:-1]).replace(",s", f",{manifest.parent}/s") + "\n")
    found = evaluate(out, away, tmp_path / "away", Options(rounds=100, familiar=tmp_path / "home"))
    rows = {row["measure"]: row for row in found["robustness"]["familiar"]["change"]}
    assert rows["balanced accuracy"]["change"]["value"] > 0  # the slide that was never examined is gone
    assert found["foreign"]["not_measured"] == 10
    page = (tmp_path / "away" / "report.html").read_text()
    assert "Against 11 familiar slides" in page


def test_baselines_may_not_learn_from_what_is_judged(cohort):
    out, manifest = cohort
    with pytest.raises(UsageError, match="are judged here too"):
        evaluate(out, manifest, options=Options(rounds=100, train=manifest))


def test_what_is_to_be_ignored_alone_says_nothing_of_the_rest(make_cohort, made):
    """Regression: such a slide was refused, for its outlines "mean normal"."""
    needle = (("varied", "calcium.diameter_um=120"),)
    slides = [made(CC, CC, truth=(("Ignore*", SPOT[1]),), found=(SPOT,), extra=needle), made("normal", "normal")]
    out, manifest = make_cohort(slides)
    found = evaluate(out, manifest, options=FEW)["localisation"]
    assert (found["slides"], found["not_measured"]) == (1, 1)
    assert (found["needles"]["by_diameter"], found["needles"]["left_out"]) == ([], 1)


def test_words_for_classes_come_from_the_training_and_from_the_call(cohort, monkeypatch):
    """Regression: outlines that the model had learnt from were refused for their words."""
    seen = {}

    def measure(cohort, aliases, *rest):
        seen.update(aliases)
        raise UsageError("enough")

    told = {"data": {"aliases": {"Kalk": "calcification", "Tumor": "ignore"}}}
    monkeypatch.setattr("histo.evaluate._card", lambda *any: (None, SimpleNamespace(training=told)))
    monkeypatch.setattr("histo.evaluate.measure_all", measure)
    with pytest.raises(UsageError, match="enough"):
        evaluate(*cohort, options=Options(aliases={"Tumor": "bone"}))
    assert seen == {"Kalk": "calcification", "Tumor": "bone"}


def test_baselines_learn_from_what_is_not_marked_test(cohort, monkeypatch):
    """Regression: the manifest of the training, split by histo itself, was refused for its own test slides."""
    out, manifest = cohort
    (manifest.parent / "t0.svs").write_bytes(b"another slide")
    rows = csv.DictReader(manifest.read_text().splitlines())
    lines = [f"{row['slide']},{row['path']},{row['patient']},{row['label']},test" for row in rows]
    split = manifest.with_name("split.csv")
    split.write_text("\n".join(["slide,path,patient,label,split", *lines, "t0,t0.svs,somebody,normal,train"]))
    learnt = []
    monkeypatch.setattr("histo.evaluate.learnt_judges", lambda cohort, trained, *rest: learnt.extend(trained) or [])
    monkeypatch.setattr("histo.evaluate.sample_of", lambda *any: None)
    evaluate(out, manifest, options=Options(rounds=50, train=split))
    assert [r.slide for r in learnt] == ["t0"]


def test_baselines_may_not_learn_from_a_copy_of_what_is_judged(cohort, tmp_path):
    """Regression: a copied file under another patient passed, for paths and names alone were compared."""
    out, manifest = cohort
    row = next(csv.DictReader(manifest.read_text().splitlines()))
    shutil.copy(manifest.parent / row["path"], tmp_path / "copy.svs")
    (tmp_path / "train.csv").write_text(f"slide,path,patient,label\ncopy,copy.svs,somebody,{row['label']}\n")
    with pytest.raises(UsageError, match="are judged here too"):
        evaluate(out, manifest, options=Options(rounds=100, train=tmp_path / "train.csv"))


def test_no_share_stands_without_its_n_and_interval(cohort):
    out, manifest = cohort
    found = evaluate(out, manifest, options=FEW)

    def walk(node, path=""):
        if isinstance(node, dict):
            if "hits" in node:
                assert {"value", "n", "low", "high"} <= set(node), path
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif isinstance(node, list):
            for k, value in enumerate(node):
                walk(value, f"{path}[{k}]")

    walk(found)


def test_the_same_evaluation_gives_the_same_files(cohort, tmp_path):
    out, manifest = cohort
    for name in ("one", "two"):
        evaluate(out, manifest, tmp_path / name, FEW)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_page_fetches_nothing_and_escapes_names(cohort, tmp_path):
    out, manifest = cohort
    manifest.write_text(manifest.read_text().replace("s4,", "<script>alert(1)</script>,", 1))
    evaluate(out, manifest, tmp_path, FEW)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "AUTHOR MUST COMPLETE" in page
    assert "object at 0x" not in page
    for label in ("Balanced accuracy", "Debiased error", "False calls", "One deposit of a set diameter"):
        assert label in page


def test_a_model_that_did_not_make_the_results_is_refused(cohort, colour_bundle):
    out, manifest = cohort
    with pytest.raises(UsageError, match="did not make the results"):
        evaluate(out, manifest, options=Options(model=colour_bundle, rounds=10))


def test_slides_to_learn_from_give_baselines_and_a_probe(painted_cohort, colour_bundle, colour_model, tmp_path):
    head, *rows = painted_cohort.read_text().splitlines()
    rows = [row.replace(",s", f",{painted_cohort.parent}/s") for row in rows]
    for name, some in (("learnt.csv", rows[:6]), ("judged.csv", rows[6:])):
        (tmp_path / name).write_text("\n".join([head, *some]) + "\n")
    slides = sorted(painted_cohort.parent.glob("s[678].svs"))
    run_slides(slides, tmp_path / "out", colour_model, RunOptions(device="cpu"))
    options = Options(model=colour_bundle, rounds=100, train=tmp_path / "learnt.csv", faithful=5)
    found = evaluate(tmp_path / "out", tmp_path / "judged.csv", options=options)
    judges = {row["name"]: row for row in found["comparators"]["judges"]}
    assert list(judges) == ["majority", "mean colour baseline", "texture baseline", "mean-pool probe"]
    assert sum(judges["mean-pool probe"]["calls"].values()) == 3
    assert "learnt from 6 slides" in judges["mean-pool probe"]["note"]
    last = found["faithfulness"]["classes"]["calcification"][-1]
    assert last["strongest"] > last["anywhere"]
    assert last["strongest_costs_more"]["hits"] == 1


def test_only_the_model_that_made_the_results_can_look_again(cohort):
    out, manifest = cohort
    with pytest.raises(UsageError, match="as --model"):
        evaluate(out, manifest, options=Options(rounds=100, faithful=1))


def test_from_infer_to_the_report_by_the_command_line(painted_cohort, colour_bundle, colour_model, tmp_path):
    out = tmp_path / "out"
    run_slides(sorted(painted_cohort.parent.glob("*.svs")), out, colour_model, RunOptions(device="cpu"))
    arguments = [
        "evaluate",
        str(out),
        str(painted_cohort),
        "--model",
        str(colour_bundle),
        "--report",
        str(tmp_path / "r"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "balanced accuracy" in done.output
    kept = json.loads((tmp_path / "r" / "report.json").read_text())
    assert kept["flow"]["slides"] == 9
    assert kept["freeze"]["card"]["name"] == "mean-colour"
    # The painted bone is smaller than the least that counts; one slide of calcium is outlined.
    assert kept["localisation"]["classes"]["bone"]["dice"]["value"] is None
    assert kept["localisation"]["classes"]["calcification"]["dice"]["n"] == 1
    assert kept["localisation"]["classes"]["calcification"]["dice"]["value"] > 0.6
    with open(tmp_path / "r" / "claim.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 44


def test_figures_noted_in_a_card_leave_the_model_what_it_is(painted_cohort, colour_bundle, tmp_path):
    bundle = shutil.copytree(colour_bundle, tmp_path / "bundle")
    before = load_bundle(bundle, lazy=True)
    run_slides(sorted(painted_cohort.parent.glob("s[0-2].svs")), tmp_path / "out", before, RunOptions(device="cpu"))
    for name in ("here", "there"):
        evaluate(tmp_path / "out", painted_cohort, options=Options(model=bundle, rounds=20, note=name))
    after = load_bundle(bundle, lazy=True)
    assert after.digest == before.digest
    assert after.card.evaluation["there"]["slides"] == 9
    assert set(after.card.evaluation) == {"here", "there"}
    save_bundle(bundle, after.card.model_dump(exclude={"golden", "weights_sha256"}), after.network)
    assert load_bundle(bundle, lazy=True).card.evaluation == {}
    with pytest.raises(UsageError, match="give --model"):
        evaluate(tmp_path / "out", painted_cohort, options=Options(note="x"))


def test_baselines_learn_from_no_other_slide_of_a_patient_who_is_judged(cohort, tmp_path):
    out, manifest = cohort
    judged = read_cohort(out, manifest)
    (tmp_path / "t.svs").write_bytes(judged.cases[0].record.path.read_bytes()[::-1])  # as large as a judged slide
    other = SlideRecord("t", tmp_path / "t.svs", "somebody", "normal")
    assert _apart([other], judged, manifest) == [other]
    with pytest.raises(UsageError, match="or their patients are"):
        _apart([replace(other, patient="P0 ")], judged, manifest)
    first = replace(judged.cases[0], record=replace(judged.cases[0].record, patient="P0"))
    with pytest.raises(UsageError, match="or their patients are"):
        _apart([replace(other, patient="p0")], replace(judged, cases=(first,)), manifest)


def test_baselines_learn_from_no_slide_that_is_judged_without_a_result(cohort, tmp_path):
    out, manifest = cohort
    judged = read_cohort(out, manifest)
    missing = next(c.record for c in judged.cases if c.result is None)
    with pytest.raises(UsageError, match="are judged here too"):
        _apart([replace(missing, patient="somebody")], judged, manifest)


def test_what_bare_tissue_is_comes_from_the_call_before_the_training():
    trained = SimpleNamespace(training={"data": {"unannotated": "ignore"}})
    assert _as_trained(Options(), trained)[1] == "ignore"
    assert _as_trained(Options(unannotated="normal"), trained)[1] == "normal"
    assert _as_trained(Options(), SimpleNamespace(training={}))[1] == _as_trained(Options(), None)[1] == "normal"


def test_a_class_is_calibrated_by_its_own_presence_where_that_is_known(cohort):
    judged = read_cohort(*cohort)
    held = [{"bone": c.record.label == HO, "calcification": None} for c in judged.cases]
    held[7] = held[7] | {"calcification": True}  # called, with a probability of 0.6
    found = _calibration(judged, held, 0)
    assert found["classes"]["bone"]["brier"]["n"] == 9
    assert found["classes"]["calcification"]["brier"]["n"] == 1
    assert found["classes"]["calcification"]["brier"]["value"] == pytest.approx(0.4**2)
    shown = [row for row in found["labels"][CC]["reliability"] if row["low_edge"] >= 0.5]
    assert [(row["share"]["hits"], row["share"]["n"]) for row in shown] == [(1, 1), (0, 1)]


def test_a_probe_looks_at_the_scale_at_which_a_slide_was_examined(cohort, monkeypatch):
    judged = read_cohort(*cohort)
    case = judged.cases[0]
    pyramid = replace(case.result.pyramid, scale_source="user", mpp_x=0.4)
    judged = replace(judged, cases=(replace(case, result=replace(case.result, pyramid=pyramid)),))
    scales = []
    monkeypatch.setattr("histo.evaluate.Engines", lambda model: None)
    monkeypatch.setattr("histo.evaluate.sample_of", lambda model, engines, record: scales.append(record.mpp))
    monkeypatch.setattr("histo.evaluate.probe", lambda learnt, shown: shown)
    assert _probe(judged, [], None) == [None]
    assert scales == [0.4]


def test_what_is_painted_over_is_looked_at_again_at_its_own_scale(cohort, tmp_path, monkeypatch):
    judged = read_cohort(*cohort)
    record = replace(judged.cases[5].record, mpp=0.4)
    asked = []
    monkeypatch.setattr("histo.evaluate.load_bundle", lambda bundle: None)
    monkeypatch.setattr("histo.evaluate.Engines", lambda model: None)
    monkeypatch.setattr("histo.evaluate.called", lambda *any: [(record, 1, "heat")])
    monkeypatch.setattr("histo.evaluate.deletions", lambda engines, *what: asked.append(what))
    _faithfulness(judged, tmp_path, Options(faithful=1))
    assert asked == [(record.path, 0.4, "heat", 1, 0)]


def test_a_patient_of_the_training_stands_in_banners_and_partitions(cohort, monkeypatch):
    side = Side("train", frozenset(), frozenset(), frozenset({hashed_patient("p0")}))
    monkeypatch.setattr("histo.evaluate.sides_of", lambda *any: [side])
    found = evaluate(*cohort, options=FEW)
    assert found["partitions"]["shared_patient_codes"] == 1
    assert "patient_in_training" in {b["code"] for b in found["banners"]}


def test_what_is_no_number_is_null():
    assert _plain({"a": np.float64("nan"), 1: (np.int64(2), float("inf"))}) == {"a": None, "1": [2, None]}
