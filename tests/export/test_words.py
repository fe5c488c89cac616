from dataclasses import replace

from histo.export.words import label_words, length_words, marks, share_of_one, short_digest
from histo.wording import area_words, probability_words


def test_marks_use_the_number_of_the_lesions_name(prediction):
    found = marks(prediction.result.lesions)
    assert sorted(found.values()) == ["B1", "C1", "C2"]


def test_marks_are_unique_where_names_and_classes_look_alike(prediction):
    lesion = prediction.result.lesions[0]
    names = [("bone", "x"), ("bone", "x"), ("bruise", "y 7"), ("bone_marrow", "z 2")]
    lesions = [replace(lesion, lesion_id=str(i), class_name=c, name=n) for i, (c, n) in enumerate(names)]
    found = marks(lesions)
    assert len(set(found.values())) == 4
    assert found["2"] == "Br7"


def test_marks_differ_where_class_names_differ_in_a_digit_or_blank_alone(prediction):
    """Regression: bone 21 and bone2 1 were both `Bone21`, and calcification_2's first was `Calcification 1`."""
    lesion = prediction.result.lesions[0]
    names = [("bone", "bone 21"), ("bone2", "bone2 1"), ("bone_2", "bone_2 1")]
    lesions = [replace(lesion, lesion_id=str(i), class_name=c, name=n) for i, (c, n) in enumerate(names)]
    assert list(marks(lesions).values()) == ["A21", "B1", "C1"]


def test_nothing_is_certain_and_nothing_that_is_there_reads_as_zero():
    assert probability_words(1.0) == "> 0.99"
    assert probability_words(0.0) == "< 0.01"
    assert probability_words(float("nan")) == "–"
    assert area_words(1e-5) == "< 0.001"


def test_digests_are_shortened_without_their_kind():
    assert short_digest("sha256:" + "ab" * 32) == "ab" * 6


def test_what_is_not_known_of_a_lesion_is_a_dash_and_what_is_there_never_reads_as_zero():
    assert (length_words(None), length_words(0.0), length_words(0.003)) == ("–", "0", "< 0.01")
    assert (share_of_one(None), share_of_one(0.0001)) == ("–", "< 0.1 %")


def test_a_slide_without_a_finding_is_not_called_normal(prediction):
    """A carcinoma without bone and calcium was headed "Normal" in thirty pixels."""
    model = prediction.result.model
    assert label_words(model.normal_label, model) == "No bone or calcification"
    assert label_words("calcinosis_cutis", model) == "Calcinosis cutis"
