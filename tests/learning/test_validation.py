import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from histo.learning.validation import CellMeter, PatientMeter, ValidationTiles, choose_tiles, examine, tiles_to_see
from histo.models.bundle import load_bundle


def test_tiles_show_lesions_and_other_tissue_and_are_always_the_same(labelled):
    outlined = labelled[4]
    assert outlined.record.label == "calcinosis_cutis"
    assert outlined.outlines
    chosen = choose_tiles(outlined, 10, 1)
    assert len(chosen) == len(set(chosen)) == 10
    assert 1 <= outlined.class_cells[chosen, 1:].any(axis=1).sum() <= 5
    assert chosen.tolist() == choose_tiles(outlined, 10, 1).tolist()
    assert len(choose_tiles(outlined, 10_000, 1)) == len(outlined.tiles)


def test_where_a_slide_has_a_diagnosis_only_many_tiles_of_it_and_of_normal_slides_are_seen(labelled, small_training):
    config = small_training("stop={tiles_per_slide: 2, unoutlined_tiles_per_slide: 9}")
    counts = tiles_to_see(labelled, config)
    assert counts == [9 if s.diagnosis_only or s.record.label == "normal" else 2 for s in labelled]
    assert {2, 9} == set(counts)
    outlined = [s for s in labelled if not s.diagnosis_only]
    assert tiles_to_see(outlined, config) == [2] * len(outlined)
    # What is seen beside tells of the patient: its cells are not those that a network is calibrated on.
    tiles = ValidationTiles(labelled, config)
    normal = next(n for n, s in enumerate(labelled) if s.record.label == "normal")
    with_cells = [sample[2].any() for sample in (tiles[i] for i in range(len(tiles))) if sample[4] == normal]
    assert sum(with_cells) == 2 < len(with_cells)


def test_tissue_of_validation_tiles_is_where_the_picture_shows_it(labelled, small_training):
    tiles = ValidationTiles(labelled[:1], small_training())
    for rgb, _, weights, tissue, number in (tiles[i] for i in range(len(tiles))):
        assert number == 0
        dark = rgb.reshape(8, 16, 8, 16, 3).mean(axis=(1, 3, 4)) < 225
        inner = np.s_[2:6, 2:6]
        assert ((tissue > 0.5)[inner] == dark[inner]).mean() > 0.85
        assert not tissue[:2].any()
        assert weights[inner].any()


def fed(slides, classes, presence):
    """Return a meter that saw each slide's classes with the given probability everywhere."""
    meter = PatientMeter(slides, classes)
    for number, (bone, calcium) in enumerate(presence):
        p = torch.zeros(1, 3, 10, 10)
        p[0, 1], p[0, 2] = bone, calcium
        meter.add(torch.tensor([number]), p, torch.ones(1, 10, 10))
    return meter


def test_a_perfect_network_has_no_patient_loss_and_a_blind_one_has_chance(labelled, classes):
    three = labelled[:3]  # normal, calcinosis, ossification
    perfect = fed(three, classes, [(0, 0), (0, 1), (1, 0.4)]).measure()
    assert perfect["patient_loss"] == pytest.approx(0, abs=1e-6)
    assert perfect["patient_accuracy"] == 1
    blind = fed(three, classes, [(0, 0)] * 3).measure()
    assert blind["patient_accuracy"] == pytest.approx(1 / 3)
    # Normal costs nothing, calcinosis half of the floor (bone is rightly absent), ossification all of it.
    assert blind["patient_loss"] == pytest.approx(-math.log(0.001) * 1.5 / 3, rel=1e-3)


@pytest.mark.parametrize("presence", [[(0, 0), (1, 0)], [(1, 0), (0, 0)]])
def test_a_patient_is_judged_by_the_most_of_his_slides(presence, labelled, classes):
    one = replace(labelled[0], record=replace(labelled[2].record, slide="a"))
    other = replace(labelled[0], record=replace(labelled[2].record, slide="b"))
    assert fed([one, other], classes, presence).measure()["patient_accuracy"] == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_patient_of_several_labels_has_the_one_that_decides_first(order, labelled, classes):
    presence = [(0, 0), (0, 1), (1, 0)]  # normal, calcinosis, ossification
    his = [replace(labelled[i], record=replace(labelled[i].record, patient="one")) for i in order]
    found = fed(his, classes, [presence[i] for i in order]).measure()
    assert found == {"patient_loss": pytest.approx(0, abs=1e-6), "patient_accuracy": 1}


def test_a_rare_label_counts_as_much_as_a_frequent_one(labelled, classes):
    normals = [replace(labelled[0], record=replace(labelled[0].record, patient=f"n{i}")) for i in range(9)]
    found = fed([*normals, labelled[2]], classes, [(0, 0)] * 10).measure()
    assert found["patient_accuracy"] == 0.5
    assert found["patient_loss"] == pytest.approx(-math.log(0.001) / 2)


def test_a_single_bright_cell_is_no_presence(labelled, classes):
    meter = PatientMeter(labelled[:1], classes)
    p = torch.zeros(1, 3, 10, 10)
    p[0, 1, 3, 3] = 1
    meter.add(torch.tensor([0]), p, torch.ones(1, 10, 10))
    assert 0 < meter.presence(0)[0] < 0.05
    meter.add(torch.tensor([0]), torch.ones(1, 3, 10, 10), torch.zeros(1, 10, 10))
    assert meter.presence(0)[0] < 0.05  # off the tissue nothing counts


def test_a_network_that_sees_the_colours_gets_every_patient_right(labelled, small_training, colour_bundle):
    found = examine(load_bundle(colour_bundle).network, labelled, small_training("stop.tiles_per_slide=200"))
    assert found.measure()["patient_accuracy"] == 1
    assert found.cells.logits.shape == found.cells.fractions.shape


def cells_of(offset):
    """Return a meter that saw calibrated logits of two classes, those of the second moved by `offset`."""
    rng = np.random.default_rng(1)
    odds = torch.from_numpy(rng.normal(0, 2, (80, 80))).float()
    truth = torch.from_numpy(rng.random((80, 80))).float() < odds.sigmoid()
    weights = torch.ones(1, 80, 80)
    weights[0, :5] = 0
    meter = CellMeter(2)
    meter.add(torch.stack([odds * 0, odds + offset])[None], torch.stack([~truth, truth])[None].float(), weights)
    return meter


def test_the_loss_of_cells_does_not_mind_how_many_lesions_a_network_expects():
    # Bug: showing a network its mistakes again moved its odds, and the best epoch was taken for the worst.
    honest, moved = cells_of(0.0), cells_of(1.5)
    assert len(honest.logits) == 75 * 80
    assert moved.measure()["validation_loss"] == pytest.approx(honest.measure()["validation_loss"], abs=1e-3)


def test_without_cells_there_is_no_loss():
    # Bug: it was 0, which no epoch could better.
    assert CellMeter(3).measure() == {}


def test_without_lesions_the_loss_is_the_networks_own():
    meter, logits = CellMeter(2), torch.zeros(1, 2, 3, 3)
    meter.add(logits, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3), torch.ones(1, 3, 3))
    assert meter.measure()["validation_loss"] == pytest.approx(math.log(2))
