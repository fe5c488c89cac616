import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score, matthews_corrcoef

from histo.evaluation.confusion import by_label, confusions, counts_by_label, overall, with_slides

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=6, max_size=60)
with_silences = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=6, max_size=60)


@given(pairs)
def test_measures_are_those_of_sklearn(slides):
    labels, calls = (np.array(x) for x in zip(*slides, strict=True))
    table = confusions(labels, calls, 3, np.ones((1, len(slides))))[0]
    found = overall(table, with_slides(table))
    present = sorted(set(labels.tolist()))
    assert found["balanced_accuracy"] == pytest.approx(np.mean([(calls[labels == k] == k).mean() for k in present]))
    assert found["accuracy"] == pytest.approx((labels == calls).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(labels, calls, labels=present, average="macro", zero_division=0))
    if len(set(labels)) > 1 and len(set(calls)) > 1:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(labels, calls))
        assert found["mcc"] == pytest.approx(matthews_corrcoef(labels, calls))
    if len(present) > 1 and set(calls.tolist()) <= set(present):
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, calls))


def test_a_slide_without_verdict_is_missed_and_never_a_false_alarm():
    labels, calls = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 2])
    table = confusions(labels, calls, 2, np.ones((1, 4)))[0]
    normal, lesion = counts_by_label(table)
    assert lesion["sensitivity"] == (1, 2)
    # Bug: a slide that was refused counted as cleared, and a scanner whose normal slides all fail looked perfect.
    assert lesion["specificity"] == (1, 2)
    assert lesion["ppv"] == (1, 1)
    assert normal["sensitivity"] == (1, 2)
    assert lesion["npv"] == (1, 1)
    assert by_label(table)["sensitivity"].tolist() == by_label(table)["specificity"].tolist() == [0.5, 0.5]


@given(with_silences, st.integers(0, 2**32 - 1))
def test_weights_count_slides_as_often_as_they_say(slides, seed):
    labels, calls = (np.array(x) for x in zip(*slides, strict=True))
    drawn = np.random.default_rng(seed).integers(0, 3, len(slides))
    weighted = confusions(labels, calls, 3, drawn[None].astype(float))[0]
    repeated = confusions(labels.repeat(drawn), calls.repeat(drawn), 3, np.ones((1, int(drawn.sum()))))[0]
    assert (weighted == repeated).all()
    exact, measured = counts_by_label(weighted), by_label(weighted)
    for k in range(3):
        for name in ("sensitivity", "specificity", "ppv", "npv"):
            hits, n = exact[k][name]
            assert n == 0 or measured[name][k] == pytest.approx(hits / n)
