from collections import Counter
from dataclasses import replace

import pytest

from histo.evaluation.cases import read_cohort
from histo.evaluation.groups import codes_of, columns_of, false_calls, flow, population, several_classes, subgroups
from histo.evaluation.resampling import Bootstrap


def drawn(cohort):
    return Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 50)


def kinds(made, kind, n, wrong, status="done"):
    return [
        made("normal", "calcinosis_cutis" if k < wrong else "normal", status, extra=(("kind", kind),)) for k in range(n)
    ]


def test_false_calls_by_kind_and_the_worst_of_them(make_cohort, made):
    slides = [
        *kinds(made, "normal", 5, 0),
        *kinds(made, "confounder:ink", 10, 1),
        *kinds(made, "confounder:scar", 10, 4, "review"),
        *kinds(made, "confounder:tendon", 2, 2),
    ]
    cohort = read_cohort(*make_cohort(slides))
    found = false_calls(cohort, drawn(cohort))
    assert (found["confounders"]["any"]["hits"], found["confounders"]["any"]["n"]) == (7, 22)
    assert found["confounders"]["confident"]["hits"] == 3
    assert found["worst"]["kind"] == "confounder:scar"
    assert found["all"]["any"]["n"] == 27
    assert found["all"]["any"]["patient_low"] <= 7 / 27 <= found["all"]["any"]["patient_high"]


def test_look_alikes_are_known_by_their_kind_whatever_it_is_called(make_cohort, made):
    # Bug: only names that begin with "confounder" counted, so that real look-alikes stood among plain skin.
    slides = [*kinds(made, "", 3, 0), *kinds(made, "normal", 3, 0), *kinds(made, "tophus", 10, 4)]
    cohort = read_cohort(*make_cohort(slides))
    found = false_calls(cohort, drawn(cohort))
    assert (found["confounders"]["any"]["hits"], found["confounders"]["any"]["n"]) == (4, 10)
    assert found["worst"]["kind"] == "tophus"
    assert [cohort.look_alike(c) for c in cohort.cases] == [""] * 6 + ["tophus"] * 10


def test_a_slide_without_the_lesion_of_its_twin_is_plain_skin(make_cohort, made):
    twin = made("normal", "normal", extra=(("kind", "mixed"), ("twin_of", "s9")))
    bare = made("normal", "normal", extra=(("kind", "calcinosis_cutis"), ("twin_of", "")))
    plain = made("normal", "normal", extra=(("kind", "Normal"), ("twin_of", "")))
    cohort = read_cohort(*make_cohort([twin, bare, plain]))
    assert [cohort.look_alike(c) for c in cohort.cases] == ["", "", ""]


def test_slides_without_a_verdict_are_no_proof_that_nothing_is_called(make_cohort, made):
    cohort = read_cohort(*make_cohort([made("normal", None, "failed"), made("normal", "normal")]))
    found = false_calls(cohort, drawn(cohort))
    assert (found["all"]["any"]["hits"], found["all"]["any"]["n"]) == (0, 1)


def test_small_groups_get_no_figure_and_identifiers_no_group(make_cohort, made):
    slides = [
        made(
            "normal",
            "normal",
            extra=(("sex", "f" if k < 12 else "m"), ("seed", str(7_000_000 + k)), ("block", f"B{k}"), ("age", str(k))),
        )
        for k in range(20)
    ]
    cohort = read_cohort(*make_cohort(slides))
    rows = {(r["column"], r["value"]): r for r in subgroups(cohort, drawn(cohort))}
    assert rows["sex", "m"] == {"column": "sex", "value": "m", "n": 8, "patients": 8, "insufficient": True}
    assert rows["sex", "f"]["accuracy"]["hits"] == 12
    assert rows["sex", "f"]["accuracy"]["patient_low"] == 1
    assert rows["sex", "f"]["balanced_accuracy"]["value"] is None  # it would be the accuracy on normal skin alone
    assert codes_of(cohort.cases) == ["seed", "block"]
    numbers = [{"accession": str(7_000_000 + k // 4)} for k in range(20)]  # codes, shared by a few slides or not
    shared = [replace(c, record=replace(c.record, extra=n)) for c, n in zip(cohort.cases, numbers, strict=True)]
    assert codes_of(shared) == ["accession"]
    # Bug: the age of twenty people, all different, was taken for a name and left out.
    assert len(set(columns_of(cohort.cases)["age"])) == 3
    assert population(cohort)["sex"]["f"] == {"normal": 12, "heterotopic_ossification": 0, "calcinosis_cutis": 0}


def test_numbers_with_many_values_become_thirds(make_cohort, made):
    slides = [made("normal", "normal", extra=(("age", str(20 + k % 15)),)) for k in range(45)]
    values = columns_of(read_cohort(*make_cohort(slides)).cases)["age"]
    assert set(values) == {"up to 24", "above 24 to 29", "above 29"}


def test_a_few_cells_that_are_no_numbers_do_not_undo_the_thirds(make_cohort, made):
    """Regression: one `>89` among ages made a group of every age."""
    ages = [f'"{20 + k},5"' for k in range(29)] + [">89"]
    cohort = read_cohort(*make_cohort([made("normal", "normal", extra=(("age", age),)) for age in ages]))
    assert Counter(columns_of(cohort.cases)["age"]).most_common()[-1] == (">89", 1)
    assert len(set(columns_of(cohort.cases)["age"])) == 4


def test_rare_values_are_counted_together(make_cohort, made):
    # Bug: the population listed the 24 commonest values of a column and lost the others.
    slides = [made("normal", "normal", extra=(("lab", f"L{k % 28}"),)) for k in range(60)]
    counts = population(read_cohort(*make_cohort(slides)))["lab"]
    assert sum(row["normal"] for row in counts.values()) == 60
    assert "4 other values" in counts


def test_the_flow_adds_up(make_cohort, made):
    slides = [
        made("normal", "normal", patient="a"),
        made("normal", None, "refused", patient="a"),
        made("calcinosis_cutis", None, "missing", patient=""),
    ]
    found = flow(read_cohort(*make_cohort(slides)))
    assert sum(found["status"].values()) == found["slides"] == 3
    assert (found["patients"], found["slides_without_patient"]) == (1, 1)
    # Bug: slides without a patient counted as one more patient of their split and label.
    assert found["by_split"]["no split"]["patients"] == 1
    assert found["by_label"]["calcinosis_cutis"]["patients"] == 0
    assert found["reasons"] == [{"status": "refused", "code": "no_scale", "slides": 1}]


def test_slides_of_several_classes_follow_precedence(make_cohort, made):
    bone, spot = ("bone", (800.0, 800.0, 400.0)), ("calcification", (1500.0, 1500.0, 240.0))
    label = "heterotopic_ossification"
    slides = [
        made(label, label, truth=(bone, spot), found=(bone, spot)),
        made(label, "calcinosis_cutis", truth=(bone, spot), found=(spot,)),
        made(label, label, truth=(bone,), found=(bone,)),
    ]
    cohort = read_cohort(*make_cohort(slides))
    held = [{"bone": True, "calcification": k < 2} for k in range(3)]
    found = several_classes(cohort, held)
    assert (found["right"]["hits"], found["right"]["n"]) == (1, 2)
    assert found["all_classes_named"]["value"] == pytest.approx(0.5)
