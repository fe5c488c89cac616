from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from histo.data.manifest import read_manifest
from histo.errors import UsageError
from histo.evaluation import baselines
from histo.evaluation.baselines import Softmax, learnt_judges
from histo.evaluation.cases import Case, Cohort, read_cohort
from histo.evaluation.comparators import (
    Judge,
    agreement_of_readers,
    columns_without_labels,
    compare,
    majority,
    mcnemar,
    other_run,
    readers,
)
from histo.evaluation.resampling import Bootstrap
from histo.results import to_json

FOLDS = 5
LABELS = ("normal", "heterotopic_ossification", "calcinosis_cutis")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant(pairs):
    ours, theirs = (np.array([p[k] for p in pairs], bool) for k in (0, 1))
    found = mcnemar(ours, theirs)
    n, few = found["only_model"] + found["only_other"], min(found["only_model"], found["only_other"])
    assert found["p"] == pytest.approx(min(1.0, 2 * binom.cdf(few, n, 0.5)) if n else 1.0)


def cohort_of(make_cohort, made, read=("normal", "calcinosis_cutis")):
    slides = [
        made("normal", "normal", extra=(("reader_1", read[0]), ("reader_2", read[0]))),
        made("normal", "normal", extra=(("reader_1", read[0]), ("reader_2", read[1]))),
        made("calcinosis_cutis", "calcinosis_cutis", extra=(("reader_1", read[1]), ("reader_2", read[1]))),
        made("calcinosis_cutis", "calcinosis_cutis", extra=(("reader_1", ""), ("reader_2", read[1]))),
    ]
    return make_cohort(slides)


def test_the_majority_is_beaten_and_readers_are_compared(make_cohort, made):
    cohort = read_cohort(*cohort_of(make_cohort, made))
    judges = [majority(cohort), *readers(cohort)]
    rows = compare(cohort, judges, Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 100))
    assert [r["name"] for r in rows] == ["majority", "reader_1", "reader_2"]
    assert [r["slides"] for r in rows] == [4, 3, 4]
    # Bug: the cell that reader 1 left empty counted as a wrong diagnosis, so that the model seemed to beat them.
    assert [r["balanced_accuracy"]["value"] for r in rows] == [0.5, 1.0, 0.75]
    assert (rows[1]["gain_of_model"]["value"], rows[1]["gain_of_model"]["n"], rows[1]["mcnemar"]["p"]) == (0, 3, 1)
    assert "judged 3 of 4 slides" in rows[1]["note"]
    assert rows[0]["gain_of_model"]["value"] == pytest.approx(0.5)
    assert rows[0]["mcnemar"]["only_model"] == 2
    (pair,) = agreement_of_readers(readers(cohort), LABELS)
    assert (pair["n"], pair["kappa"]) == (3, pytest.approx(0.4))


def test_readers_who_used_one_label_have_no_kappa():
    # Bug: the page said "kappa nan".
    judges = [Judge(name, ("normal",) * 3) for name in ("one", "other")]
    (pair,) = agreement_of_readers(judges, LABELS)
    assert pair["kappa"] is None


def test_a_run_is_as_good_as_itself(make_cohort, made):
    out, manifest = cohort_of(make_cohort, made)
    cohort = read_cohort(out, manifest)
    (row,) = compare(cohort, [other_run(cohort, out)], Bootstrap(list("abcd"), ["x"] * 4, 50))
    assert row["gain_of_model"] == {"value": 0.0, "n": 4, "patient_low": 0.0, "patient_high": 0.0}
    assert row["mcnemar"]["p"] == 1


def test_another_model_may_lack_a_label(make_cohort, made):
    """Regression: the manifest was called wrong for a label that only the other model does not know."""
    cohort = read_cohort(*cohort_of(make_cohort, made))
    classes = cohort.model.classes[:1]
    for case in cohort.cases:
        other = replace(case.result, model=replace(cohort.model, classes=classes, digest="other"))
        (case.folder / "result.json").write_text(to_json(other))
    judge = other_run(cohort, cohort.out)
    assert judge.note == "other"
    assert len(compare(cohort, [judge], Bootstrap(list("abcd"), ["x"] * 4, 50))) == 1


def test_a_reader_who_wrote_something_else_is_not_left_out_in_silence(make_cohort, made):
    slides = [made("normal", "normal", extra=(("reader_1", r),)) for r in ("normal", "unsure", "")]
    with pytest.raises(UsageError, match=r"column reader_1 of .* holds labels and 'unsure' too; use normal"):
        readers(read_cohort(*make_cohort(slides)))


def test_a_reader_who_spells_labels_otherwise_is_told(make_cohort, made):
    """Regression: a column with "Calcinosis cutis" throughout was in no table, without a word."""
    slides = [made("normal", "normal", extra=(("reader_a", "Normal"), ("reader_notes", "pale")))] * 2
    cohort = read_cohort(*make_cohort(slides))
    with pytest.raises(UsageError, match=r"column reader_a .* holds labels and 'Normal' too"):
        readers(cohort)


def test_columns_of_readers_that_hold_no_diagnoses_are_named(make_cohort, made):
    slides = [made("normal", "normal", extra=(("reader_a", "normal"), ("reader_notes", "pale")))] * 2
    assert columns_without_labels(read_cohort(*make_cohort(slides))) == ["reader_notes"]


def test_a_round_that_draws_none_of_a_label_is_no_round(make_cohort, made):
    """Regression: such rounds averaged over the other labels, so that a reader's interval reached 1."""
    slides = [
        made(label, label, patient=f"p{k}", extra=(("reader", "normal"),))
        for k, label in enumerate(["normal"] * 20 + ["heterotopic_ossification"] * 2)
    ]
    cohort = read_cohort(*make_cohort(slides))
    bootstrap = Bootstrap([*"a" * 10, *"c" * 10, *"bb"], ["normal"] * 22, 400)  # three rounds of ten draw nothing of b
    (reader,) = compare(cohort, readers(cohort), bootstrap)
    assert reader["balanced_accuracy"]["value"] == 0.5
    assert reader["balanced_accuracy"]["patient_high"] == 0.5
    assert reader["gain_of_model"]["patient_low"] == pytest.approx(0.5)


def test_the_regression_learns_a_ring_that_needs_squares():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    truth = (np.hypot(*rows.T) > 1.2).astype(int)
    judge = Softmax.fit(rows, truth, 2)
    assert (judge.chances(rows).argmax(axis=1) == truth).mean() > 0.95
    assert judge.chances(rows).sum(axis=1) == pytest.approx(np.ones(400))


def test_baselines_learn_flat_colours(painted_cohort, model_info, tmp_path):
    """Painted slides differ in colour alone: the colour baseline must win on the slides that it learnt from."""
    records = read_manifest(painted_cohort, LABELS)
    cohort = Cohort(tuple(Case(r, None) for r in records), model_info, painted_cohort, tmp_path, {}, 0)
    outlined = [r for r in records if r.annotation or r.label == "normal"]
    colour, texture = learnt_judges(cohort, outlined, {})
    right = [call == c.record.label for call, c in zip(colour.calls, cohort.cases, strict=True)]
    assert np.mean(right) >= 8 / 9
    assert len(texture.calls) == 9
    # Regression: without outlines of every class the judges knew normal tiles alone, and any model beat them.
    bare = [replace(r, annotation=None) for r in records]
    colour, _ = learnt_judges(cohort, bare, {})
    right = [call == c.record.label for call, c in zip(colour.calls, cohort.cases, strict=True)]
    assert np.mean(right) >= 8 / 9
    assert "averaged because too few outlines show every class" in colour.note
    with pytest.raises(UsageError, match="fewer than two patients"):
        learnt_judges(cohort, outlined[:1], {})


def test_baselines_never_judge_a_patient_whom_they_learnt_from(monkeypatch):
    # Bug: slides were dealt to folds one by one, so that two of one patient were on both sides.
    learnt = []

    def fit(pool, classes):
        learnt.append({float(rows[0, 0]) for rows, _ in pool})
        return None

    def strongest(judge, rows):
        assert len(learnt) > FOLDS or float(rows[0, 0]) not in learnt[-1]
        return np.zeros(1)

    monkeypatch.setattr(baselines, "_fit_tiles", fit)
    monkeypatch.setattr(baselines, "_strongest", strongest)
    patients = [f"p{k // 3}" for k in range(18)]
    pool = [(np.full((2, 3), float(k // 3)), np.zeros(2, np.int64)) for k in range(18)]
    baselines._learn(pool, ["normal", "other"] * 9, patients, [])
    assert len(learnt) == FOLDS + 1
