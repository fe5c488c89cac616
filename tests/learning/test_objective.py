from types import SimpleNamespace

import pytest

from histo.errors import UsageError
from histo.learning.objective import check_lessons
from histo.training_options import LossConfig

OUTLINED, DIAGNOSIS = SimpleNamespace(diagnosis_only=False), SimpleNamespace(diagnosis_only=True)


@pytest.mark.parametrize(("slide", "key"), [(OUTLINED, "outline_weight"), (DIAGNOSIS, "slide_weight")])
def test_a_training_in_which_nothing_weighs_is_refused(slide, key):
    """Regression: it ran to the end with a loss of 0, and kept weights that had drifted as better."""
    with pytest.raises(UsageError, match=f"loss.{key} is 0, and all slides"):
        check_lessons([slide, slide], LossConfig(**{key: 0}), print)


def test_slides_that_teach_nothing_are_told():
    said = []
    check_lessons([OUTLINED, DIAGNOSIS, DIAGNOSIS], LossConfig(slide_weight=0), said.append)
    assert said == ["warning: 2 slides with a diagnosis alone teach nothing: loss.slide_weight is 0"]
    check_lessons([OUTLINED, DIAGNOSIS], LossConfig(), said.append)
    assert len(said) == 1
