from dataclasses import replace

import pytest

from histo.learning.calibration import calibrate_out_of_fold, calibration_of, temperature_of
from histo.learning.scores import Held
from histo.learning.start import build_network
from histo.learning.validation import CellMeter, examine
from histo.models.bundle import SHIPPED, load_bundle, rewrite


@pytest.fixture(scope="module")
def cells(labelled, small_training, colour_bundle):
    """Cells of nine slides, lesions among them."""
    return examine(load_bundle(colour_bundle).network, labelled, small_training()).cells


@pytest.fixture(scope="module")
def shipped():
    """The calibration of the shipped model."""
    return load_bundle(SHIPPED).card.calibration


def test_the_temperature_needs_an_outlined_lesion(cells, labelled, small_training, colour_bundle):
    assert temperature_of(cells, 9).temperature != 1
    normal = [s for s in labelled if s.record.label == "normal"][:1]
    weak = examine(load_bundle(colour_bundle).network, normal, small_training())
    assert temperature_of(weak.cells, 2).fitted_on.startswith("Not fitted: no lesion is outlined on the 2")


def test_a_network_that_is_still_its_start_keeps_all_of_its_calibration(shipped_config, labelled, cells, shipped):
    config = shipped_config()
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=0)
    assert found == shipped


def test_a_network_that_was_trained_on_keeps_the_slide_scores_of_its_start(shipped_config, labelled, cells, shipped):
    # Bug: a training on 24 slides threw the calibration of its start away, and half the normal slides got a lesion.
    config = shipped_config()
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=3)
    assert found.temperature == shipped.temperature
    assert found.slides is not None
    assert found.slides.classes == shipped.slides.classes
    assert found.conformal is None  # it certifies the start alone
    assert "measured for that model alone" in found.in_words


def test_over_several_starts_the_scores_say_where_they_come_from(shipped_config, labelled, cells, shipped):
    config = shipped_config()
    start = build_network(config)
    kept = calibration_of(cells, labelled, config, start, best_epoch=3)
    card = start.model.card.model_copy(update={"calibration": kept, "name": "second"})
    again = replace(start, model=replace(start.model, card=card))
    assert calibration_of(cells, labelled, config, again, best_epoch=2) == kept
    assert calibration_of(cells, labelled, config, again, best_epoch=0) == kept
    assert kept.slides.kept_from.startswith("phantom-compact (")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rule.grow=0.4", "`rule.grow`"),
        ("tile.margin_px=64", "`tile.margin_px`"),
        ("classes.normal_label=nothing", "the normal label"),
        (
            "classes.lesions=[{name: bone, colour: [1, 2, 3], min_area_mm2: 0.03, verdict: heterotopic_ossification},"
            " {name: calcification, colour: [1, 2, 3], min_area_mm2: 0.005, verdict: calcinosis_cutis}]",
            "verdicts or smallest areas",
        ),
    ],
)
def test_where_evidence_is_measured_otherwise_nothing_is_kept_and_that_is_said(
    shipped_config, labelled, cells, override, key
):
    config = shipped_config(override)
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=1)
    assert found.slides is None
    assert found.fitted_on.startswith("Temperature fitted")
    assert found.fitted_on.endswith(f"are left behind, because {key} differ.")


def test_a_random_start_has_nothing_to_keep(shipped_config, labelled, cells):
    config = shipped_config("network.start=random")
    # Regression: slides without any label of their own were counted among those that the temperature was fitted on.
    with_labels = sum(bool(s.class_cells.any()) for s in labelled)
    assert with_labels < len(labelled)
    found = calibration_of(cells, labelled, config, build_network(config), best_epoch=1)
    assert found == temperature_of(cells, with_labels)


def test_without_lesions_in_the_validation_a_start_still_gives_its_temperature(shipped_config, labelled, shipped):
    config = shipped_config()
    found = calibration_of(CellMeter(3), labelled, config, build_network(config), best_epoch=1)
    assert found.temperature == shipped.temperature


def test_scores_kept_from_the_start_stay_until_folds_can_replace_all(shipped_config, labelled, cells, tmp_path):
    config, model = shipped_config(), load_bundle(SHIPPED)
    kept = calibration_of(cells, labelled, config, build_network(config), best_epoch=3)
    rewrite(model, tmp_path, {"calibration": kept.model_dump(mode="json")})
    row = {"status": "done", "verdict": "normal", "reasons": "", "held_out_by": "fold 1", "probability": {}}
    evidence = {"bone": -3.0, "calcification": -2.0}
    rows = [Held(slide="a", patient="a", label="normal", evidence=evidence, **row)]
    told = calibrate_out_of_fold(tmp_path, rows)
    assert any("bone is not calibrated" in line for line in told)
    assert load_bundle(tmp_path).card.calibration == kept


def test_folds_do_not_replace_what_was_measured_for_this_very_network(shipped):
    row = {"status": "done", "verdict": "normal", "reasons": "", "held_out_by": "fold 1", "probability": {}}
    rows = [Held(slide="a", patient="a", label="normal", evidence={"bone": -3.0, "calcification": -2.0}, **row)]
    assert calibrate_out_of_fold(SHIPPED, rows) == shipped.slides.in_words
