from dataclasses import replace
from pathlib import Path

import pytest
import torch

from histo.config import load_config
from histo.data.identities import hashed_patient
from histo.data.slide_file import sha256_of
from histo.errors import UsageError
from histo.learning.diary import Best
from histo.learning.start import build_network, keep_frozen_still, measure_batchnorm, weigh_start
from histo.models.bundle import SHIPPED, load_bundle


def test_training_starts_from_the_shipped_trunk_and_head(shipped_config):
    start = build_network(shipped_config())
    network, told = start.network, start.told
    shipped = load_bundle(SHIPPED).network
    assert torch.equal(network.head.weight, shipped.head.weight)
    assert all(torch.equal(a, b) for a, b in zip(network.trunk.parameters(), shipped.trunk.parameters(), strict=True))
    assert told.endswith("trunk and head")
    assert start.knows_classes
    assert next(network.trunk.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_other_classes_take_the_trunk_alone(shipped_config):
    lesions = "classes.lesions=[{name: hair, colour: [1, 2, 3], min_area_mm2: 0.1, verdict: hairy}]"
    start = build_network(shipped_config(lesions))
    network, told = start.network, start.told
    assert not start.knows_classes
    assert start.has_seen.slides_sha256  # the trunk has seen them
    assert network.head.out_channels == 2
    assert "the trunk of" in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tile.mpp=0.5", r"tile.mpp is 0.5 and the model has"),
        ("tile.stride_px=8", r"tile.stride_px is 8 and the model has"),
        ("tile.tissue_od=[0.3, 0.6, 0.4]", r"tile.tissue_od is \[0.3, 0.6, 0.4\] and the model has"),
        ("tile.nuclear_od=0.5", r"tile.nuclear_od is 0.5 and the model has"),
        ("network.backbone=resnet50", r"network.backbone is resnet50 and the model has"),
        ("network.mean=[0.5, 0.5, 0.5]", r"network.mean is \[0.5, 0.5, 0.5\] and the model has"),
    ],
)
def test_a_start_made_for_other_pictures_is_refused(shipped_config, override, message):
    with pytest.raises(UsageError, match=message):
        build_network(shipped_config(override))


@pytest.mark.parametrize("name", ["phantom", "few_slides", "weak_labels"])
def test_the_configurations_show_tiles_as_the_shipped_model_sees_them(name):
    config = load_config(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
    assert config.tile == load_bundle(SHIPPED).card.tile


def test_a_start_that_is_no_bundle_is_refused(small_training, tmp_path):
    with pytest.raises(UsageError, match=r"network.start is '.*nowhere', which is no usable model"):
        build_network(small_training(f"network.start={tmp_path / 'nowhere'}"))


def test_a_relative_start_counts_from_the_configuration(tmp_path):
    text = "name: a\nintended_use: b\nclasses: {lesions: [{name: x, colour: [0, 0, 0], min_area_mm2: 1, verdict: y}]}\n"
    (tmp_path / "c.yaml").write_text(text + "data: {manifest: s.csv}\nnetwork: {start: models/old}\n")
    assert load_config(tmp_path / "c.yaml").network.start == str(tmp_path / "models" / "old")


@pytest.mark.parametrize(("how", "learning"), [("trunk", {"head"}), ("early", {"head", "trunk"})])
def test_frozen_blocks_do_not_move(shipped_config, how, learning):
    network = build_network(shipped_config(freeze=how)).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    keep_frozen_still(network, how)
    adam = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)).square().sum().backward()
    adam.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == learning
    last = f"trunk.{len(network.trunk) - 1}."
    assert all(name.startswith(("head", last)) for name in moved)


def test_batchnorm_measured_anew_is_the_average_over_the_batches(small_training):
    network = build_network(small_training()).network
    batches = [torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8) for _ in range(3)]
    assert measure_batchnorm(network, batches, "nothing")
    first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    conv = network.trunk[0][0]
    with torch.no_grad():
        means = [conv((b.float() - network.mean) / network.std).mean(dim=(0, 2, 3)) for b in batches]
    assert torch.allclose(first.running_mean, torch.stack(means).mean(dim=0), atol=1e-4)
    assert first.momentum is not None
    assert not network.training
    assert not measure_batchnorm(network, batches, "trunk")


def test_a_training_that_gains_nothing_keeps_its_start(shipped_config, labelled):
    # Bug: on few slides the best of several worse epochs was taken, and the start had been better.
    config, said = shipped_config("stop.tiles_per_slide=2"), []
    start, best = build_network(config), Best(config.stop)
    measured = weigh_start(start, labelled[:4], config, best, said.append)
    assert best.state["best_epoch"] == 0
    assert best.state["best"] == measured["validation_loss"]
    assert not said
    assert start.network.training
    worse = {config.stop.monitor: best.state["best"] + 0.1}
    best.judge(1, worse, {"other": torch.zeros(1)})
    assert torch.equal(best.state["weights"]["head.weight"], start.network.head.weight)


def test_a_start_that_knows_nothing_is_not_weighed(small_training, labelled):
    config = small_training()
    best = Best(config.stop)
    assert weigh_start(build_network(config), labelled[:2], config, best, print) == {}
    assert "weights" not in best.state


def test_a_start_that_knows_the_validation_slides_is_not_weighed(shipped_config, labelled):
    config, said = shipped_config(), []
    best = Best(config.stop)
    start = build_network(config)
    for known in (
        {"slides_sha256": [sha256_of(labelled[0].record.path)]},
        # Bug: new slides of a patient whom the start knew counted, so that no epoch could be better.
        {"patients_sha256": [hashed_patient(labelled[0].record.patient)]},
    ):
        card = start.model.card.model_copy(update={"training": {"learnt_from": known}})
        weigh_start(replace(start, model=replace(start.model, card=card)), labelled[:2], config, best, said.append)
        assert "weights" not in best.state
    told = "the start was trained on 1 of the validation slides or on patients of these names, so no epoch"
    assert said == [f"{told} is compared with it"] * 2


def test_a_loss_that_nothing_was_labelled_for_is_refused(small_training):
    best = Best(small_training("stop.monitor=validation_loss").stop)
    with pytest.raises(UsageError, match="no cell of the validation slides is labelled"):
        best.judge(1, {"patient_loss": 0.1}, {})
