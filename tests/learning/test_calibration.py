from dataclasses import replace

import pytest

from histo.learning.calibration import calibrate_out_of_fold, calibration_of, temperature_of
from histo.learning.scores import Held
from histo.learning.start import build_network
from histo.learning.validation import CellMeter, examine
from histo.models.bundle import SHIPPED, bring_parts, load_bundle, save_bundle
from histo.models.slide_fit import SIZES


@pytest.fixture(scope="module")
def cells(labelled, small_training, colour_bundle):
    """Cells of nine slides, lesions among them."""
    return examine(load_bundle(colour_bundle).network, labelled, small_training()).cells


@pytest.fixture(scope="module")
def shipped():
    """The calibration of the shipped model."""
    return load_bundle(SHIPPED).card.calibration


def many(labelled):
    """Return as many patients of every label as calibrating each class takes."""
    return [
        replace(slide, record=replace(slide.record, patient=f"{slide.record.label} {i}"))
        for slide in labelled[:3]
        for i in range(SIZES.platt)
    ]


def test_the_temperature_needs_an_outlined_lesion(cells, labelled, small_training, colour_bundle):
    assert temperature_of(cells, 9).temperature != 1
    normal = [s for s in labelled if s.record.label == "normal"][:1]
    weak = examine(load_bundle(colour_bundle).network, normal, small_training())
    assert temperature_of(weak.cells, 2).fitted_on.startswith("Not fitted: no lesion is outlined on the 2")


def test_a_network_that_is_still_its_start_keeps_all_of_its_calibration(shipped_config, labelled, cells, shipped):
    config = shipped_config()
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=0)
    assert found.model_dump(exclude={"fitted_on"}) == shipped.model_dump(exclude={"fitted_on"})
    assert "which this network is" in found.fitted_on


def test_too_few_patients_keep_temperature_and_slide_scores_of_the_start(shipped_config, labelled, cells, shipped):
    # Bug: a training on 24 slides threw the calibration of its start away, and half the normal slides got a lesion.
    config = shipped_config()
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=3)
    assert found.temperature == shipped.temperature
    assert found.slides is not None
    assert found.slides.classes == shipped.slides.classes
    assert found.conformal is None  # it certifies the start alone
    assert found.fitted_on.endswith(": 9 validation patients are too few to fit all anew.")
    assert "measured for that model alone" in found.in_words


def test_enough_patients_get_a_temperature_of_their_own(shipped_config, labelled, cells):
    config = shipped_config()
    found = calibration_of(cells, many(labelled), config, build_network(config), best_epoch=3)
    assert found == temperature_of(cells, 3 * SIZES.platt)


@pytest.mark.parametrize(
    "override",
    [
        "rule.grow=0.4",
        "tile.margin_px=64",
        "classes.normal_label=nothing",
        "network.start=random",
        (
            "classes.lesions=[{name: bone, colour: [1, 2, 3], min_area_mm2: 0.03, verdict: heterotopic_ossification},"
            " {name: calcification, colour: [1, 2, 3], min_area_mm2: 0.005, verdict: calcinosis_cutis}]"
        ),
    ],
)
def test_evidence_that_is_measured_otherwise_keeps_nothing(shipped_config, labelled, cells, override):
    config = shipped_config(override)
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=0)
    assert found.slides is None
    assert found.fitted_on.startswith("Temperature fitted")


def test_without_lesions_in_the_validation_a_start_still_gives_its_temperature(shipped_config, labelled, shipped):
    config = shipped_config()
    found = calibration_of(CellMeter(3), labelled, config, build_network(config), best_epoch=1)
    assert found.temperature == shipped.temperature


def test_scores_kept_from_the_start_stay_until_folds_can_replace_all(shipped_config, labelled, cells, tmp_path):
    config, model = shipped_config(), load_bundle(SHIPPED)
    kept = calibration_of(cells, labelled, config, build_network(config), best_epoch=3)
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    bring_parts(model, tmp_path)
    save_bundle(tmp_path, card | {"calibration": kept.model_dump(mode="json")}, model.network)
    row = {"status": "done", "verdict": "normal", "reasons": "", "held_out_by": "fold 1", "probability": {}}
    evidence = {"bone": -3.0, "calcification": -2.0}
    rows = [Held(slide="a", patient="a", label="normal", evidence=evidence, **row)]
    told = calibrate_out_of_fold(tmp_path, rows)
    assert any("bone is not calibrated" in line for line in told)
    assert load_bundle(tmp_path).card.calibration == kept
