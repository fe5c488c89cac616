import numpy as np

from histo.evaluation.pool_probe import probe


def test_what_the_mean_shows_is_learnt_and_what_it_hides_is_not():
    rng = np.random.default_rng(0)
    learnt = [(f"p{k}", "ab"[k % 2], rng.normal(size=6) + 3.0 * (k % 2) * np.eye(6)[0]) for k in range(40)]
    shown = [rng.normal(size=6) + 3.0 * (k % 2) * np.eye(6)[0] for k in range(100)]
    judge = probe(learnt, [*shown, None])
    assert np.mean([call == "ab"[k % 2] for k, call in enumerate(judge.calls[:-1])]) > 0.85
    assert judge.calls[-1] == "no verdict"
    hidden = [(patient, label, x - x[0] * np.eye(6)[0]) for patient, label, x in learnt]
    called = probe(hidden, [x - x[0] * np.eye(6)[0] for x in shown]).calls
    assert 0.25 < np.mean([call == "ab"[k % 2] for k, call in enumerate(called)]) < 0.75


def test_one_patient_is_enough_to_learn_from_though_not_to_choose_the_ridge():
    assert probe([("p", "a", np.zeros(3)), ("p", "b", np.ones(3))], [np.ones(3)]).calls == ("b",)
