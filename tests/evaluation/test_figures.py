import numpy as np

from histo.evaluation.figures import draw_reliability, draw_roc


def test_a_cohort_of_one_label_has_no_roc(model_info):
    """Regression: a cohort of needles alone (every slide positive) drew an empty plot and warned."""
    one = {"bone": (np.array([0.2, 0.9]), np.array([True, True]))}
    assert draw_roc(one, model_info) is None
    both = {"bone": (np.array([0.2, 0.9]), np.array([False, True]))}
    assert draw_roc(both, model_info).shape[2] == 3
    assert draw_reliability([]) is None
