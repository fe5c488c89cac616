import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.config import ClassConfig, ClassesConfig
from histo.learning.presence import Presence, presence_of, verdict_of


def test_a_diagnosis_says_what_the_verdict_rule_says(classes):
    assert presence_of("heterotopic_ossification", classes) == Presence((1,), ())
    assert presence_of("calcinosis_cutis", classes) == Presence((2,), (1,))
    assert presence_of("normal", classes) == Presence((), (1, 2))
    assert presence_of("calcinosis_cutis", classes).questions == (((2,), 1.0), ((1,), 0.0))


def test_classes_with_one_verdict_are_asked_for_together():
    woven, lamellar, calcium = (
        ClassConfig(name=name, colour=(0, 0, 0), min_area_mm2=1, verdict=verdict)
        for name, verdict in (("woven", "ho"), ("lamellar", "ho"), ("calcium", "cc"))
    )
    classes = ClassesConfig(lesions=(woven, lamellar, calcium))
    assert presence_of("ho", classes) == Presence((1, 2), ())
    assert presence_of("cc", classes) == Presence((3,), (1, 2))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.data())
def test_what_is_on_a_slide_never_contradicts_its_verdict(verdicts, data):
    """Whatever classes a slide holds, the label that the rule gives it must agree with them."""
    lesions = tuple(
        ClassConfig(name=f"c{i}", colour=(0, 0, 0), min_area_mm2=1, verdict=v) for i, v in enumerate(verdicts)
    )
    classes = ClassesConfig(lesions=lesions)
    present = tuple(data.draw(st.booleans()) for _ in lesions)
    found = presence_of(verdict_of(present, classes), classes)
    assert not found.one_of or any(present[c - 1] for c in found.one_of)
    assert not any(present[c - 1] for c in found.absent)


@pytest.mark.parametrize("label", ["normal", "calcinosis_cutis", "heterotopic_ossification"])
def test_every_label_says_something(label, classes):
    assert presence_of(label, classes).questions
