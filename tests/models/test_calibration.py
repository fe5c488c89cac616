"""Temperature scaling finds the temperature that was put in."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from histo.models.calibration import fit_temperature


def calibrated(count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the true probability, with labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 3))
    drawn = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    return logits, np.eye(3)[drawn]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return calibrated()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_a_known_temperature_is_recovered(temperature: float, data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_soft_labels_give_it_exactly(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (500, 3))
    assert fit_temperature(logits * temperature, softmax(logits, axis=1)) == pytest.approx(temperature, rel=1e-3)


def test_scaling_never_makes_the_loss_worse(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data[0] * 3, data[1]

    def loss(temperature: float) -> float:
        return float(-(labels * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())

    best = fit_temperature(logits, labels)
    assert loss(best) < loss(1.0)
    assert loss(best) <= min(loss(best * 0.97), loss(best * 1.03))


def test_a_shift_of_all_logits_does_not_matter(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    assert fit_temperature(logits + 100, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_logits_of_any_size_give_a_finite_positive_temperature(
    scale: float, data: tuple[np.ndarray, np.ndarray]
) -> None:
    temperature = fit_temperature(data[0] * scale, data[1])
    assert 0 < temperature < 10


def test_no_cells_are_an_error() -> None:
    with pytest.raises(ValueError, match="no cells"):
        fit_temperature(np.empty((0, 3)), np.empty((0, 3)))
