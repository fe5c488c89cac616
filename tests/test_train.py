import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch

from histo.config import load_config
from histo.errors import TrainingDiverged, UsageError
from histo.infer import load_model, predict_slide
from histo.learning.run_folder import UNFINISHED, finish
from histo.train import dry_run, train

LABELS = ["normal", "heterotopic_ossification", "calcinosis_cutis"]


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def epochs_told(said):
    """The lines of finished epochs; on a slow machine steps are told between them."""
    return [line for line in said if re.match(r"epoch \d+/\d+: ", line)]


@pytest.fixture(scope="module")
def finished(small_training, tmp_path_factory):
    """A run with two folds on outlines and diagnoses, and what it said."""
    out, said = tmp_path_factory.mktemp("runs"), []
    config = small_training("cross_validation.folds=3", "name=whole", "optimiser.epochs=1")
    bundle = train(config, out, device="cpu", say=said.append)
    assert bundle == out / "whole" / "bundle"
    return out / "whole", said


def test_a_run_leaves_a_model_that_inference_loads(finished, painted_cohort):
    run, said = finished
    model = load_model(run / "bundle")
    assert model.card.network.backbone == "mobilenet_v3_small"
    training = model.card.training
    assert training["train_slides"] + training["validation_slides"] == 9
    learnt = [r for r in rows_of(run / "splits.csv") if r["split"] == "train"]
    unoutlined = [r for r in learnt if r["label"] != "normal" and not r["annotation_sha256"]]
    assert training["train_slides_with_diagnosis_only"] == len(unoutlined) > 0
    assert str(painted_cohort.parent) not in (run / "bundle" / "card.json").read_text()
    assert len(epochs_told(said)) == 4
    assert predict_slide(painted_cohort.parent / "s0.svs", model).result.verdict is not None


def test_a_run_leaves_everything_that_it_promises(finished):
    run, said = finished
    for name in (
        "config.yaml", "splits.csv", "metrics.csv", "validation.csv", "out_of_fold.csv", "suspicious.csv",
        "learning_curves.png", "confusion.png", "report.md", "report.html",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    for name in ("learning_curves.png", "confusion.png"):
        assert cv2.imread(str(run / name)).std() > 5
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    sides = [{r["patient"] for r in rows_of(run / "splits.csv") if r["split"] == s} for s in ("train", "validation")]
    assert not sides[0] & sides[1]
    columns = {"epoch", "training_loss", "training_bag_loss", "validation_loss", "patient_loss", "patient_accuracy"}
    assert columns <= set(rows_of(run / "metrics.csv")[0])
    assert [line for line in said if line.startswith("warning: Only 3 patients")]


def test_every_slide_is_predicted_once_by_a_model_that_never_saw_its_patient(finished):
    run, _ = finished
    rows = rows_of(run / "out_of_fold.csv")
    assert sorted(r["slide"] for r in rows) == [f"s{i}" for i in range(9)]
    for k in (1, 2, 3):
        held = {r["patient"] for r in rows if r["held_out_by"] == f"fold {k}"}
        used = {r["patient"] for r in rows_of(run / "folds" / str(k) / "splits.csv") if r["split"] != "held out"}
        assert held
        assert not held & used
    assert len(rows_of(run / "suspicious.csv")) == 9
    assert all(r["source"].startswith("fold ") for r in rows_of(run / "suspicious.csv"))


def test_the_report_says_how_little_so_few_patients_prove(finished):
    run, _ = finished
    text = (run / "report.md").read_text()
    assert "Research use only" in text
    assert "Only 3 patients of 3 with the label normal were held out" in text
    assert "Verdicts of histo infer on 9 out-of-fold slides" in text
    assert "Northcutt" in text
    assert "The best epoch on the validation patients was number 1" in text
    assert (run / "report.html").read_text().count("data:image/png;base64,") == 2


def test_a_finished_run_can_be_asked_for_again(finished, small_training, monkeypatch):
    run, _ = finished
    before = json.loads((run / "bundle" / "card.json").read_text())
    config = small_training("cross_validation.folds=3", "name=whole", "optimiser.epochs=1")
    monkeypatch.setattr("histo.learning.precision._fastest", lambda device: "16-true")  # another machine
    said = []
    train(config, run.parent, device="cpu", say=said.append)
    assert json.loads((run / "bundle" / "card.json").read_text()) == before
    assert said == [f"{run} is finished; give another `name` to train once more"]
    for fold in (run / "folds").iterdir():
        assert load_model(fold / "bundle").card.training["learnt_from"]["slides_sha256"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(small_training, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        bundle = train(small_training("optimiser.epochs=1", f"name={name}", f"seed={seed}"), tmp_path, device="cpu")
        digests.append(json.loads((bundle / "card.json").read_text())["weights_sha256"])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_training_without_progress_stops_and_stays_stopped(finished, small_training, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.conclude", lambda *a: None)  # as if it had been killed there
    run, _ = finished
    config = small_training(
        "optimiser={epochs: 6, batch_size: 6, learning_rate: 1e-12}",
        "stop={patience: 2}",
        "averaging={}",
        f"network={{backbone: mobilenet_v3_small, freeze: trunk, start: {run / 'bundle'}}}",
    )
    said = []
    bundle = train(config, tmp_path, device="cpu", say=said.append)
    # Bug: a bundle without reference, and without the list of what it learnt from, looked whole.
    assert not bundle.exists()
    bundle = bundle.with_name(UNFINISHED)
    assert len(load_model(bundle).card.training["learnt_from"]["slides_sha256"]) == 9
    assert len(epochs_told(said)) == 3
    assert load_model(bundle).card.training["best_epoch"] == 1
    assert [line for line in said if line.startswith("the start was trained on")]
    said.clear()
    train(config, tmp_path, device="cpu", say=said.append)
    assert not epochs_told(said)


def test_a_training_that_a_callback_of_the_user_s_ends_stays_ended(small_training, tmp_path, monkeypatch):
    # Bug: the same command trained on after such an end, where a run killed later would have given another model.
    monkeypatch.setattr("histo.train.conclude", lambda *a: None)  # as if it had been killed there
    config = small_training(
        "optimiser={epochs: 6, batch_size: 6, learning_rate: 1e-12}",
        "callbacks=[{class: pytorch_lightning.callbacks.EarlyStopping, args: {monitor: patient_loss, min_delta: 9}}]",
    )
    said: list[str] = []
    train(config, tmp_path, device="cpu", say=said.append)
    assert len(epochs_told(said)) < 6
    said.clear()
    train(config, tmp_path, device="cpu", say=said.append)
    assert not epochs_told(said)


def test_a_training_from_the_shipped_model_keeps_its_calibration_and_what_it_has_seen(
    shipped_config, tmp_path, monkeypatch
):
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    shipped = load_model().card
    config = shipped_config("optimiser.epochs=1", "averaging={start_share: 0.5}")
    said: list[str] = []
    card = load_model(train(config, tmp_path, device="cpu", say=said.append)).card
    assert card.calibration.slides.classes == shipped.calibration.slides.classes
    assert card.calibration.temperature == shipped.calibration.temperature
    assert set(shipped.training["learnt_from"]["slides_sha256"]) <= set(
        card.training["start_learnt_from"]["slides_sha256"]
    )
    # Bug: a model could not be calibrated on the slides that its start was calibrated on, though no weight saw them.
    assert card.training["calibrated_on"] == shipped.training["calibrated_on"]
    assert set(shipped.training["calibrated_on"]["slides_sha256"]).isdisjoint(
        card.training["start_learnt_from"]["slides_sha256"]
    )
    assert [row["epoch"] for row in rows_of(tmp_path / config.name / "metrics.csv")] == ["0", "1"]
    assert any(line.startswith("calibration: Temperature") for line in said)


def test_a_training_in_half_precision_is_measured_as_its_start_was(shipped_config, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    learns_nothing = ("optimiser.epochs=1", "optimiser.learning_rate=1e-12", "averaging={ema: 0.0}")
    config = shipped_config(*learns_nothing, "trainer={precision: bf16-mixed}", freeze="trunk")
    train(config, tmp_path, device="cpu")
    before, after = rows_of(tmp_path / config.name / "metrics.csv")
    assert float(after["validation_loss"]) == pytest.approx(float(before["validation_loss"]), rel=1e-6)


def test_folds_cannot_hold_out_what_their_start_has_seen(finished, small_training, tmp_path):
    run, _ = finished
    start = f"network={{backbone: mobilenet_v3_small, start: {run / 'bundle'}}}"
    with pytest.raises(UsageError, match=r"network.start was trained on 9 of the slides or on patients of these names"):
        train(small_training("cross_validation.folds=3", start), tmp_path, device="cpu")


def test_a_run_of_another_configuration_is_refused(finished, small_training):
    run, _ = finished
    with pytest.raises(UsageError, match=r"another configuration: \S+ is .* and not "):
        train(small_training("name=whole", "optimiser.learning_rate=1e-4"), run.parent, device="cpu")


def test_other_outlines_are_another_run(small_training, painted_cohort, tmp_path, monkeypatch):
    """Regression: after a change of the data, the old weights were written under a card with the new figures."""
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    copy = tmp_path / "data"
    shutil.copytree(painted_cohort.parent, copy)
    small = small_training(f"data.manifest={copy / 'slides.csv'}", "optimiser.epochs=1")
    train(small, tmp_path, device="cpu")
    outlined = next(copy.glob("*.geojson"))
    outlined.write_text(outlined.read_text() + "\n")
    with pytest.raises(UsageError, match="other slides, labels, outlines or sides"):
        train(small, tmp_path, device="cpu")


def test_a_mistake_in_a_first_configuration_does_not_lock_the_name(small_training, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    with pytest.raises(UsageError, match="unknown backbone"):
        train(small_training("network.backbone=resnet81"), tmp_path, device="cpu")
    train(small_training("optimiser.epochs=1"), tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_run(small_training, tmp_path, monkeypatch):
    bad = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("histo.learning.objective.cell_loss", lambda *a: bad)
    with pytest.raises(TrainingDiverged, match=r"lower optimiser.learning_rate"):
        train(small_training(), tmp_path, device="cpu")


def test_trainer_options_callbacks_and_loggers_come_from_the_configuration(small_training, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.conclude", lambda run, *a: finish(run))
    monkeypatch.setattr("histo.train.find_spec", lambda name: None)  # TensorBoard is an extra
    logs, said = tmp_path / "logs", []
    config = small_training(
        "optimiser.epochs=1",
        "trainer={log_every_n_steps: 2}",
        "callbacks=[{class: pytorch_lightning.callbacks.LearningRateMonitor}]",
        f"loggers=[{{class: pytorch_lightning.loggers.CSVLogger, args: {{save_dir: '{logs}'}}}}]",
    )
    run = train(config, tmp_path, device="cpu", say=said.append).parent
    written = rows_of(next(logs.rglob("metrics.csv")))
    assert any(row.get("lr-AdamW") for row in written)
    assert [line for line in said if "TensorBoard is not installed" in line]
    assert not (run / "tensorboard").exists()
    assert (run / "metrics.csv").exists()


def test_a_callback_that_fails_at_work_is_named(small_training, tmp_path):
    """Regression: Lightning's RuntimeError came as a traceback after the first epoch, which was lost."""
    config = small_training(
        "optimiser.epochs=1",
        "callbacks=[{class: tests.learning.test_addons.Stumbling}]",
    )
    with pytest.raises(UsageError, match=r"`callbacks` names tests\.learning\.test_addons\.Stumbling, which stopped"):
        train(config, tmp_path, device="cpu")


@pytest.mark.parametrize("options", ["{devices: 0}", "{max_time: x}"])
def test_a_dry_run_refuses_the_trainer_options_that_a_run_refuses(options, small_training, tmp_path):
    with pytest.raises(UsageError, match="doesn't work"):
        dry_run(small_training("name=tried", f"trainer={options}"), tmp_path, device="cpu")


def test_a_dry_run_shows_a_batch_estimates_and_trains_nothing(small_training, tmp_path):
    said = []
    found = dry_run(small_training("name=tried"), tmp_path, device="cpu", say=said.append)
    assert [p.name for p in (tmp_path / "tried").iterdir()] == ["dry_run.png"]
    assert cv2.imread(str(found.picture)).std() > 5
    assert found.seconds > 0
    assert 0.1 < found.peak_gb < 64
    assert found.steps == 2
    assert [line for line in said if "nothing was trained" in line]
    assert said[-1] == "The start has no slide scores of these classes to keep."


def test_a_dry_run_deals_the_folds_that_the_run_will_need(small_training, tmp_path):
    """Regression: what `histo train` refused at once passed the dry run."""
    with pytest.raises(UsageError, match="too few for 9 folds"):
        dry_run(small_training("name=tried", "cross_validation.folds=9"), tmp_path, device="cpu")
    said = []
    dry_run(small_training("name=tried", "cross_validation.by=site"), tmp_path, device="cpu", say=said.append)
    assert [line for line in said if "x 4 trainings" in line]


def test_a_dry_run_says_what_is_kept_of_the_calibration(shipped_config, tmp_path):
    for overrides, told in (((), "are kept until folds or `histo calibrate`"), (("rule.grow=0.4",), "are left behind")):
        said = []
        dry_run(shipped_config(*overrides), tmp_path, device="cpu", say=said.append)
        assert told in said[-1]


def test_normal_slides_are_needed_beside_diagnoses(small_training, painted_cohort, tmp_path):
    rows = painted_cohort.read_text().splitlines()
    weak = [",".join([*row.split(",")[:4], "", ""]) for row in rows[1:] if ",normal," not in row]
    manifest = painted_cohort.parent / "weak-only.csv"
    manifest.write_text("\n".join([rows[0], *weak]) + "\n")
    with pytest.raises(UsageError, match="no slide shows labelled tissue"):
        train(small_training(f"data.manifest={manifest}"), tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["few_slides", "weak_labels", "phantom"])
def test_the_shipped_configurations_are_read(name):
    path = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    assert load_config(path).classes.labels == tuple(LABELS)


def test_a_checkpoint_of_an_earlier_version_is_told(tmp_path, small_training):
    """Its state holds no rows of the diary: a training would have gone on without its first epochs."""
    from histo.train import _Job, _Keeper

    keeper = _Keeper(_Job(tmp_path, small_training(), [], [], "cpu", print))
    with pytest.raises(UsageError, match=r"last.ckpt is of an earlier version of histo; give another `name`"):
        keeper.load_state_dict({"best_epoch": 1, "best": 0.5, "stopped": False})
