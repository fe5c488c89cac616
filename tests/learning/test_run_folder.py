"""A run's folder pins down what the run is; another one may not go on in it, and a bundle is whole or absent."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from histo.config import load_config
from histo.data.records import SlideRecord
from histo.errors import ArchiveError, UsageError
from histo.learning.run_folder import (
    BUNDLE,
    UNFINISHED,
    alone,
    begun_with,
    describe_run,
    finish,
    is_finished,
    provenance,
)
from histo.models.bundle import CARD


def test_another_start_under_the_same_name_is_another_run(small_training, tmp_path, monkeypatch):
    # Bug: after the start had been trained anew, old weights went on under the new start's name and calibration.
    started = SimpleNamespace(digest="aa" * 32)
    monkeypatch.setattr("histo.learning.run_folder.start_model", lambda config: started)
    config = small_training()
    describe_run(tmp_path, config, {})
    (tmp_path / "checkpoints").mkdir()
    describe_run(tmp_path, config, {})
    assert load_config(tmp_path / "config.yaml").optimiser == config.optimiser
    started.digest = "bb" * 32
    with pytest.raises(UsageError, match="began with another start"):
        describe_run(tmp_path, config, {})
    (tmp_path / BUNDLE).mkdir()
    (tmp_path / BUNDLE / CARD).write_text("{}")
    describe_run(tmp_path, config, {})
    assert "aa" * 32 in (tmp_path / "config.yaml").read_text(), "a finished run says what it was started from"
    (tmp_path / "checkpoints").rmdir()
    with pytest.raises(UsageError, match="another configuration: seed is 1 and not 7; give"):
        describe_run(tmp_path, small_training("seed=7"), {})


def test_a_start_that_is_no_model_is_told_before_anything_is_written(small_training, tmp_path):
    with pytest.raises(UsageError, match="no usable model"):
        describe_run(tmp_path / "run", small_training(f"network.start={tmp_path / 'none'}"), {})
    assert not (tmp_path / "run").exists()


def test_two_trainings_under_one_name_do_not_meet(tmp_path):
    """Regression: one reported success for a bundle that the other had trained, with another configuration."""
    with alone(tmp_path / "run"):
        with pytest.raises(ArchiveError, match=r"is in use by process .* give this one another `name`"):
            alone(tmp_path / "run").__enter__()
        others = (
            {"LOCAL_RANK": "1"}, {"RANK": "1", "LOCAL_RANK": "0"}, {"NODE_RANK": "1"},
            {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
        )  # fmt: skip
        for environment in others:  # the other processes of the same training
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                with alone(tmp_path / "run"):
                    pass
    with alone(tmp_path / "run"):
        pass


def test_a_finished_run_needs_neither_its_start_nor_the_order_of_its_rows(small_training, tmp_path, monkeypatch):
    """Regression: it was refused without its start, and where the manifest's rows were in another order."""
    slides = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.svs").write_text(name)
        slides.append(SlideRecord(name, tmp_path / f"{name}.svs", name, "normal"))
    config, run = small_training(), tmp_path / "run"
    describe_run(run, config, {"train": slides})
    (run / BUNDLE).mkdir()
    (run / BUNDLE / CARD).touch()
    monkeypatch.setattr("histo.learning.run_folder.start_model", lambda config: pytest.fail("the start was loaded"))
    describe_run(run, config, {"train": slides[::-1]})
    with pytest.raises(UsageError, match=r"other slides, labels, outlines or sides \(first: b\)"):
        describe_run(run, config, {"train": slides[:1]})


def test_a_begun_run_goes_on_where_its_slides_lie_elsewhere_by_now(small_training, tmp_path):
    """Regression: it was refused where the same manifest had another path, though every slide in it is compared."""
    config = small_training()
    describe_run(tmp_path, config, {})
    (tmp_path / "checkpoints").mkdir()
    moved = config.data.model_copy(update={"manifest": tmp_path / "moved" / "slides.csv"})
    describe_run(tmp_path, config.model_copy(update={"data": moved}), {})
    assert load_config(tmp_path / "config.yaml").data.manifest == moved.manifest


def test_a_bundle_bears_its_name_once_it_is_whole(tmp_path):
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / CARD).write_text("{}")
    assert not is_finished(tmp_path)
    (tmp_path / BUNDLE).mkdir()  # left by a process that was killed between two files
    finish(tmp_path)
    assert is_finished(tmp_path)
    assert not (tmp_path / UNFINISHED).exists()


def test_what_a_run_was_begun_with_is_known_once_something_is_learnt(small_training, tmp_path):
    config = small_training("trainer={precision: bf16-mixed}")
    describe_run(tmp_path, config, {})
    assert begun_with(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert begun_with(tmp_path)["trainer"] == {"precision": "bf16-mixed"}
    other = small_training("trainer={precision: 32-true}", "optimiser.epochs=7")
    with pytest.raises(
        UsageError, match=r"optimiser\.epochs is \d and not 7, trainer.precision is bf16-mixed and not 32"
    ):
        describe_run(tmp_path, other, {})
    for damaged in (b"", b"- a list", b"trainer: {", b"name: \xff\xfe"):
        (tmp_path / "config.yaml").write_bytes(damaged)
        with pytest.raises(UsageError, match="is no configuration any more"):
            begun_with(tmp_path)


@pytest.mark.parametrize("begun", ["checkpoints", "folds"])
@pytest.mark.parametrize("what", ["scale", "outlines", "file", "side", "patient"])
def test_a_slide_that_teaches_something_else_is_another_run(what, begun, small_training, tmp_path):
    slide, outlines = tmp_path / "a.svs", tmp_path / "a.geojson"
    slide.write_text("a")
    outlines.write_text("[]")
    record, config, side = SlideRecord("a", slide, "p1", "normal", outlines, 0.5), small_training(), "train"
    describe_run(tmp_path / "run", config, {side: [record]})
    (tmp_path / "run" / begun).mkdir()
    describe_run(tmp_path / "run", config, {side: [record]})
    if what == "scale":
        record = replace(record, mpp=0.25)
    elif what == "patient":
        record = replace(record, patient="p2")
    elif what == "side":
        side = "validation"
    else:
        (outlines if what == "outlines" else slide).write_text("changed")
    with pytest.raises(UsageError, match=r"other slides, labels, outlines or sides \(first: a\)"):
        describe_run(tmp_path / "run", config, {side: [record]})


def test_what_a_configuration_no_longer_says_is_a_difference(small_training, tmp_path):
    describe_run(tmp_path, small_training("trainer={log_every_n_steps: 2}"), {})
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"trainer\.log_every_n_steps is 2 and not there"):
        describe_run(tmp_path, small_training(), {})


def test_a_card_counts_patients_and_names_no_path(small_training, tmp_path):
    slides = [SlideRecord(f"s{k}", tmp_path / f"s{k}.svs", f"p{k // 2}", "normal") for k in range(4)]
    config = small_training(f"network.start={tmp_path / 'Jane Doe'}")
    found = provenance(config, slides, slides[:2], 0)
    assert (found["train_slides"], found["train_patients"]) == (4, 2)
    assert (found["validation_slides"], found["validation_patients"]) == (2, 1)
    assert found["start"] == "bundle"
    assert str(tmp_path) not in str(found)


def test_a_folder_without_a_card_is_no_finished_run(tmp_path):
    (tmp_path / BUNDLE).mkdir()
    assert not is_finished(tmp_path)
