"""Bias-corrected temperature scaling finds the temperature and the offsets that were put in."""

import numpy as np
import pytest
from scipy.special import softmax

from histo.models.calibration import Scaling, fit_scaling


def calibrated(count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the true probability, with labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 3))
    drawn = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    return logits, np.eye(3)[drawn]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return calibrated()


@pytest.mark.parametrize("with_offsets", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_a_known_temperature_is_recovered(temperature: float, with_offsets: bool, data) -> None:
    logits, labels = data
    scaling = fit_scaling(logits * temperature, labels, with_offsets)
    assert scaling.temperature == pytest.approx(temperature, rel=0.05)
    assert scaling.offsets == pytest.approx(np.zeros(3), abs=0.06)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_soft_labels_give_temperature_and_offsets_exactly(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (500, 3))
    labels = softmax(logits + np.array([0, -1.5, 0.7]), axis=1)
    scaling = fit_scaling(logits * temperature, labels, with_offsets=True)
    assert scaling.temperature == pytest.approx(temperature, rel=1e-3)
    assert scaling.offsets == pytest.approx([0, -1.5, 0.7], abs=1e-3)


def test_lesions_shown_too_often_get_their_odds_back() -> None:
    # A network that learnt from five times as much of class 2 believes in it five times as much.
    logits, labels = calibrated()
    scaling = fit_scaling(logits + np.array([0, 0, np.log(5)]), labels, with_offsets=True)
    assert scaling.offsets == pytest.approx([0, 0, -np.log(5)], abs=0.1)


def test_a_temperature_alone_moves_no_odds(data) -> None:
    logits, labels = data
    assert not fit_scaling(logits + np.array([0, 1, 1]), labels).offsets.any()


def test_scaling_never_makes_the_loss_worse(data) -> None:
    logits, labels = data[0] * 3 + np.array([0, 1, 0]), data[1]
    best = fit_scaling(logits, labels, with_offsets=True)
    assert best.loss(logits, labels) < Scaling(1.0, np.zeros(3)).loss(logits, labels)
    for moved in (
        Scaling(best.temperature * 1.03, best.offsets),
        Scaling(best.temperature, best.offsets + np.array([0, 0.1, 0])),
    ):
        assert best.loss(logits, labels) < moved.loss(logits, labels)


def test_a_shift_of_all_logits_does_not_matter(data) -> None:
    logits, labels = data
    shifted, plain = (
        fit_scaling(logits + 100, labels, with_offsets=True),
        fit_scaling(logits, labels, with_offsets=True),
    )
    assert shifted.temperature == pytest.approx(plain.temperature, rel=1e-2)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_logits_of_any_size_give_a_finite_positive_temperature(scale: float, data) -> None:
    scaling = fit_scaling(data[0] * scale, data[1], with_offsets=True)
    assert 0 < scaling.temperature < 10
    assert np.isfinite(scaling.offsets).all()


def test_no_cells_are_an_error() -> None:
    with pytest.raises(ValueError, match="no cells"):
        fit_scaling(np.empty((0, 3)), np.empty((0, 3)), with_offsets=True)
