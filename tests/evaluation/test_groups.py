import pytest

from histo.evaluation.cases import read_cohort
from histo.evaluation.groups import columns_of, false_calls, flow, population, several_classes, subgroups


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
    found = false_calls(read_cohort(*make_cohort(slides)))
    assert (found["confounders"]["any"]["hits"], found["confounders"]["any"]["n"]) == (7, 22)
    assert found["confounders"]["confident"]["hits"] == 3
    assert found["worst"]["kind"] == "confounder:scar"
    assert found["all"]["any"]["n"] == 27


def test_slides_without_a_verdict_are_no_proof_that_nothing_is_called(make_cohort, made):
    found = false_calls(read_cohort(*make_cohort([made("normal", None, "failed"), made("normal", "normal")])))
    assert (found["all"]["any"]["hits"], found["all"]["any"]["n"]) == (0, 1)


def test_small_groups_get_no_figure_and_identifiers_no_group(make_cohort, made):
    slides = [
        made("normal", "normal", extra=(("sex", "f" if k < 12 else "m"), ("seed", str(k)), ("age", str(20 + k % 16))))
        for k in range(20)
    ]
    cohort = read_cohort(*make_cohort(slides))
    rows = {(r["column"], r["value"]): r for r in subgroups(cohort)}
    assert rows["sex", "m"] == {"column": "sex", "value": "m", "n": 8, "patients": 8, "insufficient": True}
    assert rows["sex", "f"]["accuracy"]["hits"] == 12
    assert "seed" not in columns_of(cohort.cases)
    assert population(cohort)["sex"]["f"] == {"normal": 12, "heterotopic_ossification": 0, "calcinosis_cutis": 0}


def test_numbers_with_many_values_become_thirds(make_cohort, made):
    slides = [made("normal", "normal", extra=(("age", str(20 + k % 15)),)) for k in range(45)]
    values = columns_of(read_cohort(*make_cohort(slides)).cases)["age"]
    assert len(set(values)) == 3
    assert values[0].startswith("up to")


def test_the_flow_adds_up(make_cohort, made):
    slides = [
        made("normal", "normal", patient="a"),
        made("normal", None, "refused", patient="a"),
        made("calcinosis_cutis", None, "missing", patient=""),
    ]
    found = flow(read_cohort(*make_cohort(slides)))
    assert sum(found["status"].values()) == found["slides"] == 3
    assert (found["patients"], found["slides_without_patient"]) == (1, 1)
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
