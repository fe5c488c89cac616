import numpy as np
import pytest

from histo.evaluation.resampling import Bootstrap, percentiles


def test_whole_patients_are_drawn_within_their_label():
    patients = ["a", "a", "b", "c", "c", "c", "d"]
    labels = ["x", "x", "x", "y", "y", "y", "y"]
    weights = Bootstrap(patients, labels, rounds=200, seed=1).weights
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    per_patient = weights[:, [0, 2, 3, 6]]
    assert (per_patient[:, :2].sum(axis=1) == 2).all()
    assert (per_patient[:, 2:].sum(axis=1) == 2).all()
    assert set(np.unique(weights)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("mixed", "stratum"),
    [
        (["x", "x", "y"], "x"),
        (["x", "y"], "y"),  # the rarer label on a tie
        (["x", "y", "y"], "y"),
    ],
)
def test_a_patient_of_several_labels_is_drawn_within_that_of_most_slides(mixed, stratum):
    patients = ["mixed"] * len(mixed) + list("abcd")
    labels = [*mixed, "x", "x", "x", "y"]
    weights = Bootstrap(patients, labels, rounds=200).weights
    within = [0] + [k for k in range(len(mixed), len(labels)) if labels[k] == stratum]
    assert (weights[:, within].sum(axis=1) == len(within)).all()
    assert len(np.unique(weights[:, 0])) > 1


def test_a_slide_without_patient_is_drawn_alone():
    weights = Bootstrap([None, None], ["x", "x"], rounds=500).weights
    assert (weights[:, 0] != weights[:, 1]).any()


def test_the_same_seed_draws_the_same():
    one, same, other = (Bootstrap(list("abcd"), ["x"] * 4, 50, seed).weights for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_slides_of_one_patient_widen_the_interval():
    """Twenty patients of ten equal slides each are twenty findings, not two hundred."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.8, 10).astype(float)
    patients = [f"p{k // 10}" for k in range(200)]

    def mean(weights):
        return (weights @ right) / weights.sum(axis=1)

    by_patient = Bootstrap(patients, ["x"] * 200).interval(mean)
    by_slide = Bootstrap([f"s{k}" for k in range(200)], ["x"] * 200).interval(mean)
    assert by_patient[1] - by_patient[0] > 2.2 * (by_slide[1] - by_slide[0])


def test_the_interval_covers_the_truth_often_enough():
    """Simulated with patients of three slides that share a chance; 95 % intervals cover at least 90 % of the time."""
    rng = np.random.default_rng(1)
    patients = [f"p{k // 3}" for k in range(90)]
    covered = 0
    for seed in range(150):
        chance = rng.beta(8, 2, 30).repeat(3)
        right = (rng.random(90) < chance).astype(float)
        low, high = Bootstrap(patients, ["x"] * 90, 300, seed).interval(lambda w, r=right: w @ r / w.sum(axis=1))
        covered += low <= 0.8 <= high
    assert covered / 150 >= 0.90


def test_a_share_has_the_interval_of_slides_and_of_patients():
    # Bug: the shares of what was decided had none by patient, which twenty slides a patient make much too narrow.
    patients = [f"p{k // 20}" for k in range(200)]
    bootstrap = Bootstrap(patients, ["x"] * 200, 500)
    right, every = np.array([k // 20 != 3 for k in range(200)]), np.ones(200, bool)
    figure = bootstrap.share(right, every)
    assert (figure["value"], figure["hits"], figure["n"]) == (0.9, 180, 200)
    assert figure["patient_high"] - figure["patient_low"] > 2 * (figure["high"] - figure["low"])
    assert bootstrap.share(right, ~every)["patient_low"] is None
    halves = [np.arange(200) < 100, np.arange(200) >= 100]
    mean = bootstrap.mean_of_shares(right, [*halves, ~every])
    assert mean["value"] == pytest.approx(0.9)
    assert mean["patient_low"] < 0.9 <= mean["patient_high"]
    assert bootstrap.mean_of_shares(right, [])["value"] is None


def test_rounds_without_a_value_are_left_out_up_to_a_half():
    assert percentiles(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert percentiles(np.array([np.nan, np.nan, 1.0])) is None
    assert percentiles(np.array([])) is None
    assert Bootstrap([], []).weights.shape == pytest.approx((2000, 0))
