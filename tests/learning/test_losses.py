import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from histo.learning.losses import POOLS, bag_loss, cell_loss, class_weights, log_odds
from histo.learning.presence import Presence
from histo.training_options import LossConfig, WeakConfig


def test_the_loss_counts_weighted_cells_only():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 0, 0] = 100.0
    fractions = torch.zeros(1, 2, 2, 2)
    fractions[:, 1] = 1
    weights = torch.ones(1, 2, 2)
    weights[0, 0, 0] = 0
    assert cell_loss(logits, fractions, weights).item() == pytest.approx(np.log(2))
    assert cell_loss(logits, fractions, torch.ones(1, 2, 2)).item() == pytest.approx((3 * np.log(2) + 100) / 4)


def one_cell(probability, wanted):
    """Return logits, fractions and weights of one cell of two classes."""
    logits = torch.tensor([1 - probability, probability]).log().view(1, 2, 1, 1)
    return logits, torch.tensor([1.0 - wanted, wanted]).view(1, 2, 1, 1), torch.ones(1, 1, 1)


def test_generalised_cross_entropy_is_what_its_paper_says():
    config = LossConfig(kind="generalised_cross_entropy", q=0.7)
    assert cell_loss(*one_cell(0.3, 1.0), config).item() == pytest.approx((1 - 0.3**0.7) / 0.7, abs=1e-5)
    nearly = LossConfig(kind="generalised_cross_entropy", q=1e-4)
    assert cell_loss(*one_cell(0.3, 1.0), nearly).item() == pytest.approx(-np.log(0.3), abs=1e-3)
    wrong = one_cell(1e-6, 1.0)
    assert cell_loss(*wrong, config) < 1.5 < 10 < cell_loss(*wrong)  # a wrong label cannot pull without end


def test_smoothed_labels_punish_certainty():
    sure, unsure = one_cell(0.9999, 1.0), one_cell(0.95, 1.0)
    smooth = LossConfig(label_smoothing=0.1)
    assert cell_loss(*sure) < cell_loss(*unsure)
    assert cell_loss(*sure, smooth) > cell_loss(*unsure, smooth)


def test_a_smoothed_label_gives_its_share_to_all_classes_alike():
    """A tenth of two classes: 0.05 of what is wanted lies on the other."""
    found = cell_loss(*one_cell(0.3, 1.0), LossConfig(label_smoothing=0.1)).item()
    assert found == pytest.approx(-(0.95 * np.log(0.3) + 0.05 * np.log(0.7)), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_bag_costs_the_mean_of_its_questions(smoothing):
    """One cell, so that pooling is nothing: the third class should be there and is 0.2, the second not and is 0.3."""
    logits = torch.tensor([0.5, 0.3, 0.2]).log().view(1, 3, 1, 1)
    said = Presence((2,), (1,))
    found = bag_loss(logits, torch.ones(1, 1, 1), said, WeakConfig(pool="mean"), LossConfig(label_smoothing=smoothing))
    right, wrong = 1 - smoothing / 2, smoothing / 2
    there = -(right * np.log(0.2) + wrong * np.log(0.8))
    absent = -(right * np.log(0.7) + wrong * np.log(0.3))
    assert found.item() == pytest.approx((there + absent) / 2, abs=1e-6)


def test_class_weights_lift_the_rare_class(small_training):
    config = small_training("loss.balance=1")
    weights = class_weights([900, 90, 0], config)
    assert weights.tolist() == pytest.approx([2 / 11, 20 / 11, 0])
    assert class_weights([900, 90, 0], small_training()) is None
    logits, fractions, cells = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2), torch.ones(1, 1, 2)
    fractions[0, 0, 0, 0] = fractions[0, 1, 0, 1] = 1
    logits[0, 0] = 5.0
    assert cell_loss(logits, fractions, cells, None, weights) > cell_loss(logits, fractions, cells)
    # Bug: a training in double precision ended with "expected scalar type Float but found Double".
    assert cell_loss(logits.double(), fractions.double(), cells.double(), None, weights).dtype == torch.float64


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=30), st.floats(0.5, 8))
def test_the_smooth_maximum_lies_between_mean_and_maximum(values, sharpness):
    scores, weights = torch.tensor(values), torch.ones(len(values))
    pooled = POOLS["log_sum_exp"](scores, weights, WeakConfig(sharpness=sharpness)).item()
    assert np.mean(values) - 1e-3 <= pooled <= max(values) + 1e-3


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_cells_without_tissue_are_not_pooled(pool):
    scores = torch.tensor([-3.0, -3.0, 9.0])
    tissue = torch.tensor([1.0, 1.0, 0.0])
    assert POOLS[pool](scores, tissue, WeakConfig(pool=pool)).item() == pytest.approx(-3)


def test_log_odds_are_those_of_the_softmax():
    logits = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(dim=1)[:, [1, 3]].sum(dim=1)
    assert torch.allclose(log_odds(logits, (1, 3)).sigmoid(), p, atol=1e-6)


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_a_bag_pulls_its_strongest_cells_up_and_absent_classes_down(pool):
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 2, 1, 1] = 3.0
        logits[1, 1, 2, 2] = 2.0
    weak = WeakConfig(pool=pool, top_k=2)
    bag_loss(logits, torch.ones(2, 4, 4), Presence((2,), (1,)), weak, LossConfig()).backward()
    down = logits.grad
    assert down[:, 2].sum() < 0 < down[:, 1].sum()
    if pool != "mean":
        assert down[0, 2, 1, 1] == down[0, 2].min()
        assert down[1, 1, 2, 2] > 0


def test_a_bag_without_tissue_costs_nothing_and_says_nothing():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = bag_loss(logits, torch.zeros(2, 4, 4), Presence((1,), ()), WeakConfig(), LossConfig())
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
