"""The objective really teaches: a network of colours alone learns the painted lesions from diagnoses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from histo.data.labels import IGNORED
from histo.learning.bags import Found, StepTiles, draw_steps
from histo.learning.objective import Objective
from histo.learning.validation import examine
from histo.models.classifier import TileClassifier

COLOURS = {"normal": (225, 170, 195), "bone": (205, 95, 130), "calcification": (60, 30, 95)}


def taught(slides, config, epochs):
    """Train a linear network on mean colours with the project's own steps and losses."""
    torch.manual_seed(0)
    network = TileClassifier("mean_colour", 3, 16, config.network.mean, config.network.std)
    network.dropout.p = 0.0
    objective = Objective(config, slides)
    adam = torch.optim.Adam(network.parameters(), lr=0.2)
    for epoch in range(epochs):
        for step in draw_steps(slides, config, epoch, Found({}, {}, {})):
            tiles = StepTiles(slides, step, config.classes.names, None)
            samples = [tiles[i] for i in range(len(tiles))]
            batch = [torch.from_numpy(np.stack([s[i] for s in samples])) for i in range(3)]
            loss, _ = objective(network, [*batch, torch.tensor([s[3] for s in samples])])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return network.eval()


def seen(network, colour):
    """Return the class probabilities of a tile of one colour."""
    tile = torch.tensor(COLOURS[colour], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    with torch.no_grad():
        return network(tile).softmax(dim=1).mean(dim=(0, 2, 3)).tolist()


def without_outlines(slide):
    """Return a slide as if only its diagnosis were known."""
    if slide.record.label == "normal":
        return slide
    cells, counts = np.full_like(slide.cells, IGNORED), np.zeros_like(slide.class_cells)
    return replace(slide, diagnosis_only=True, outlines={}, cells=cells, class_cells=counts)


def test_diagnoses_alone_teach_which_tissue_is_the_lesion(labelled, small_training):
    weak = [without_outlines(slide) for slide in labelled]
    config = small_training("data.tiles_per_epoch=60", "weak={bag_tiles: 8, bags_per_step: 2}")
    network = taught(weak, config, 4)
    for index, colour in enumerate(COLOURS):
        assert seen(network, colour)[index] > 0.5, (colour, seen(network, colour))
    assert examine(network, weak, small_training("stop.tiles_per_slide=200")).measure()["patient_accuracy"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["log_sum_exp", "top_k"])
def test_outlines_and_diagnoses_are_learnt_in_one_run(labelled, small_training, pool):
    network = taught(labelled, small_training("data.tiles_per_epoch=60", f"weak={{bag_tiles: 3, pool: {pool}}}"), 5)
    for index, colour in enumerate(COLOURS):
        assert seen(network, colour)[index] > 0.5, (colour, seen(network, colour))
