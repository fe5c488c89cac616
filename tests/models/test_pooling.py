"""Pooled evidence: the strongest cells, as many as half of what counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from histo.models.pooling import SUREST, pooled, pooled_by_label


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.integers(1, 30))
def test_pooled_is_the_mean_of_the_strongest_log_odds_and_missing_ones_count_as_nothing(p: list[float], n: int) -> None:
    count = -(-n // 2)
    strongest = np.clip(sorted([*p, *[0.0] * count])[-count:], SUREST, 1 - SUREST)
    assert pooled(np.array(p, np.float32), n) == pytest.approx(logit(strongest).mean(), abs=1e-4)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(1, 30))
def test_more_cells_never_weaken_the_evidence(p: list[float], n: int) -> None:
    values = np.array(p, np.float32)
    assert pooled(values, n) >= pooled(values[:-1], n) - 1e-9
    assert pooled(np.minimum(values + np.float32(0.1), 1), n) >= pooled(values, n)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1, width=32)), max_size=60), st.integers(1, 30))
def test_all_labels_at_once_give_what_each_gives_alone(cells: list[tuple[int, float]], n: int) -> None:
    labels = np.array([1, 2, 3, 4, *(label for label, _ in cells)])[None]
    values = np.array([0.5, 0.9, 0, 1, *(p for _, p in cells)], np.float32)[None]
    evidence, peaks = pooled_by_label(values, labels, 4, n)
    assert evidence == pytest.approx([pooled(values[labels == k], n) for k in range(1, 5)])
    assert peaks.tolist() == [values[labels == k].max() for k in range(1, 5)]


def test_a_map_without_labels_has_no_evidence_by_label() -> None:
    evidence, peaks = pooled_by_label(np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32), 0, 5)
    assert evidence.shape == peaks.shape == (0,)
