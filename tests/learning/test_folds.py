from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.learning.folds import check_processes, deal_folds, fold_by_patient, fold_by_site, without
from histo.training_options import CrossValidationConfig


def records(patients, slides_each=1):
    """Return slides of `patients` (label of each)."""
    return [
        SlideRecord(f"s{i}-{k}", Path(f"s{i}-{k}.svs"), f"p{i}", label)
        for i, label in enumerate(patients)
        for k in range(slides_each)
    ]


@given(st.integers(4, 9), st.integers(4, 9), st.integers(1, 3), st.integers(2, 4), st.integers(0, 5))
def test_every_slide_is_held_out_once_and_no_patient_is_split(normal, calcium, each, folds, seed):
    slides = records(["normal"] * normal + ["calcinosis_cutis"] * calcium, each)
    held = fold_by_patient(slides, folds, seed)
    assert sorted(r.slide for fold in held for r in fold) == sorted(r.slide for r in slides)
    patients = [{r.patient for r in fold} for fold in held]
    assert sum(map(len, patients)) == len(set().union(*patients))
    for label in ("normal", "calcinosis_cutis"):
        counts = [len({r.patient for r in fold if r.label == label}) for fold in held]
        assert max(counts) - min(counts) <= 1
    assert held == fold_by_patient(slides, folds, seed)


def test_folds_on_several_processes_are_refused():
    """Regression: all but the first process end with the first fold, and the second waited for them for ever."""
    sizes = {"data": SimpleNamespace(tiles_per_epoch=8), "optimiser": SimpleNamespace(batch_size=4)}
    folds = SimpleNamespace(cross_validation=CrossValidationConfig(folds=3), **sizes)
    check_processes(folds, 1)
    alone = SimpleNamespace(cross_validation=CrossValidationConfig(), **sizes)
    check_processes(alone, 2)
    with pytest.raises(UsageError, match="leaves each of 3 processes less than a batch"):  # Bug: KeyError 'weights'
        check_processes(alone, 3)
    with pytest.raises(UsageError, match="one model after another, which several processes cannot"):
        check_processes(folds, 2)


def test_test_patients_are_left_alone():
    slides = records(["normal"] * 4)
    slides[0] = SlideRecord("t", Path("t.svs"), "p0", "normal", split="test")
    held = fold_by_patient(slides, 3, 0)
    assert "t" not in {r.slide for fold in held for r in fold}
    assert "t" not in {r.slide for r in without(slides, held[0])}


def test_too_few_patients_for_the_folds_are_refused():
    with pytest.raises(UsageError, match="label calcinosis_cutis has 2 patients, too few for 3 folds"):
        fold_by_patient(records(["normal"] * 5 + ["calcinosis_cutis"] * 2), 3, 0)
    with pytest.raises(UsageError, match="label normal has 3 patients, too few for 2 folds"):
        fold_by_patient(records(["normal"] * 3), 2, 0)
    assert len(fold_by_patient(records(["normal"] * 3), 3, 0)) == 3


def test_each_site_is_held_out_once_and_test_slides_never():
    slides = [
        SlideRecord(f"s{k}", Path(f"s{k}.svs"), f"p{k}", ("normal", "calcinosis_cutis")[k % 2], site="AB"[k // 4])
        for k in range(8)
    ]
    slides.append(SlideRecord("t", Path("t.svs"), "pt", "normal", split="test", site="C"))
    assert [{r.slide for r in fold} for fold in fold_by_site(slides)] == [
        {f"s{k}" for k in range(n, n + 4)} for n in (0, 4)
    ]


def test_a_fold_that_cannot_be_dealt_is_named():
    """Regression: the error of one site's fold read as if the whole manifest had too few patients."""
    slides = [
        SlideRecord(f"s{k}", Path(f"s{k}.svs"), f"p{k}", label, site=site)
        for k, (label, site) in enumerate(
            [("normal", "A"), ("normal", "A"), ("normal", "B"), *[("calcinosis_cutis", s) for s in "AABB"]]
        )
    ]
    config = SimpleNamespace(
        cross_validation=CrossValidationConfig(by="site"), data=SimpleNamespace(validation_share=0.3), seed=0
    )
    with pytest.raises(UsageError, match="cross-validation, without site A: label normal has 1 patient"):
        deal_folds(config, slides, SimpleNamespace(knows=lambda records: []))


def by_patient(folds, seed=0):
    """Return what `deal_folds` needs of a configuration."""
    return SimpleNamespace(
        cross_validation=CrossValidationConfig(folds=folds), data=SimpleNamespace(validation_share=0.3), seed=seed
    )


def test_every_fold_learns_from_validates_on_and_holds_out_other_patients():
    slides = records(["normal"] * 5 + ["calcinosis_cutis"] * 5, 2)
    dealt = deal_folds(by_patient(3), slides, SimpleNamespace(knows=lambda records: []))
    assert [fold.name for fold in dealt] == ["fold 1", "fold 2", "fold 3"]
    for fold in dealt:
        parts = [{r.patient for r in part} for part in fold[1:]]
        assert all(parts)
        assert sum(map(len, parts)) == len(set().union(*parts)) == 10
        assert len(fold.learn) + len(fold.validate) + len(fold.held) == 20


def test_what_is_left_beside_a_fold_is_free_of_the_manifest_s_splits():
    """A fold deals anew: a slide to validate on may be one to learn from there."""
    slides = [
        replace(r, split=split) for r, split in zip(records(["normal"] * 3), ("train", "validation", None), strict=True)
    ]
    assert [(r.slide, r.split) for r in without(slides, slides[2:])] == [("s0-0", None), ("s1-0", None)]


def test_a_start_that_knows_the_slides_is_refused_before_anything_is_dealt():
    slides = records(["normal"] * 4)
    start = SimpleNamespace(knows=lambda records: list(records)[:2])
    with pytest.raises(UsageError, match="trained on 2 of the slides"):
        deal_folds(by_patient(2), slides, start)
    assert deal_folds(by_patient(0), slides, start) == []
