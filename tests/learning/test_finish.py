"""What a finished training leaves: BatchNorm that helps, a card that says what was seen, a reference or no promise."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from histo.data.identities import CALIBRATED_ON, LEARNT_FROM, START_CALIBRATED_ON, STARTED_FROM, Known, identities
from histo.data.slide_file import sha256_of
from histo.errors import UsageError
from histo.infer import load_model
from histo.learning import finish
from histo.learning.finish import _content, add_reference, card_of, settle_batchnorm
from histo.models.bundle import save_bundle
from histo.reference import SETS_LEFT


@pytest.mark.parametrize(("after", "mean"), [(0.3, 0), (0.2, 7), (0.1, 7)])
def test_batchnorm_measured_anew_is_used_unless_it_is_worse(after, mean, small_training, monkeypatch):
    losses = iter((0.2, after))
    measured = SimpleNamespace(patients=SimpleNamespace(measure=lambda: {"patient_loss": next(losses)}))
    monkeypatch.setattr(finish, "examine", lambda *any: measured)
    monkeypatch.setattr(finish, "draw_steps", lambda *any: [])
    monkeypatch.setattr(finish, "measure_batchnorm", lambda network, *any: network.running_mean.fill_(7) is not None)
    network, said = torch.nn.BatchNorm1d(1), []
    settle_batchnorm(network, [], [], small_training(), said.append)
    assert network.running_mean.item() == mean
    assert said[0].endswith("is not used") == (mean == 0)


def test_a_card_tells_all_that_was_seen_and_what_the_start_was_meant_for(small_training, labelled, monkeypatch):
    calibration = SimpleNamespace(slides="those of the start", model_dump=lambda mode: {})
    monkeypatch.setattr(finish, "calibration_of", lambda *any: calibration)
    seen, kept = identities(["00"], ["p"]), identities(["11"], ["q"])
    old = SimpleNamespace(name="old", intended_use="Only feet.", training={CALIBRATED_ON: kept})
    start = SimpleNamespace(
        told="from old", model=SimpleNamespace(card=old), has_seen=Known.by({LEARNT_FROM: seen}, LEARNT_FROM)
    )
    found = SimpleNamespace(cells=None, measure=lambda: {})
    card = card_of(small_training(), labelled[:2], labelled[2:4], found, start, 3)
    training = card["training"]
    slides = [s.record for s in labelled[:4]]
    assert training[LEARNT_FROM] == identities([sha256_of(r.path) for r in slides], [r.patient for r in slides])
    assert training[STARTED_FROM] == seen
    assert training[CALIBRATED_ON] == training[START_CALIBRATED_ON] == kept
    assert card["intended_use"].endswith("Started from old: Only feet.")
    calibration.slides = None  # the start's are not kept
    assert CALIBRATED_ON not in card_of(small_training(), labelled[:2], labelled[2:4], found, start, 3)["training"]


def test_a_slide_that_was_written_anew_has_another_hash(tmp_path):
    path = tmp_path / "a.svs"
    path.write_text("one")
    before = _content(path)
    path.write_text("two")
    os.utime(path, (1, 1))
    assert _content(path) == sha256_of(path) != before


@pytest.fixture
def promising(colour_bundle, tmp_path) -> Path:
    """A bundle with sets of diagnoses, whose start has learnt from the first of the painted slides' patients."""
    model = load_model(colour_bundle)
    bound = {"patients": 20, "level": 0.95, "largest_score": 0.5}
    labels = dict.fromkeys(model.card.classes.labels, bound)
    calibration = model.card.calibration.model_dump(mode="json") | {"conformal": {"wanted": 0.95, "labels": labels}}
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    training = {STARTED_FROM: identities([], ["p0"])}
    save_bundle(tmp_path / "bundle", card | {"calibration": calibration, "training": training}, model.network)
    return tmp_path / "bundle"


def test_the_limit_comes_from_what_neither_the_training_nor_its_start_has_seen(promising, labelled, monkeypatch):
    asked = {}

    def fit(model, slides, learnt, *rest):
        asked.update(slides=[r.slide for r in slides], learnt=[r.slide for r in learnt])
        raise UsageError("enough")

    monkeypatch.setattr(finish, "fit_reference", fit)
    add_reference(promising, labelled[3:5], labelled[:3], "cpu", lambda line: None)
    assert asked == {"slides": ["s1", "s2"], "learnt": ["s3", "s4", "s0"]}


def test_without_a_reference_no_set_of_diagnoses_is_promised(promising, labelled):
    said: list[str] = []
    add_reference(promising, labelled[:1], labelled[1:2], "cpu", said.append)
    model = load_model(promising)
    assert (model.card.reference, model.card.calibration.conformal) == (None, None)
    assert said[0].startswith("warning: foreign tissue will not be told: 2 patients say nothing")
    assert said[-1] == SETS_LEFT
