"""Splits: whole patients, every label, every site evenly, the same for the same seed whatever the row order."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histo.data.records import SlideRecord
from histo.data.splits import Split, hold_out, k_folds, leave_one_site_out, refuse_leaks, split_by_patient
from histo.errors import UsageError

LABELS = ("normal", "calcinosis_cutis", "heterotopic_ossification")
Records = list[SlideRecord]


def record(
    number: int, patient: str, label: str = "normal", split: str | None = None, site: str | None = None
) -> SlideRecord:
    return SlideRecord(f"s{number}", Path(f"{number}.svs"), patient, label, split=split, site=site)


@st.composite
def cohorts(draw: st.DrawFn, most: int = 30) -> Records:
    """Patients with one to four slides, mostly of one label, at one site each; some are fixed to a side."""
    records: Records = []
    for p in range(draw(st.integers(2, most))):
        fixed = draw(st.sampled_from([None, None, None, None, "train", "validation", "test"]))
        site = draw(st.sampled_from("ABC"))
        for label in draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=4)):
            records.append(record(len(records), f"p{p}", label, fixed, site))
    return records


def made(records: Records, seed: int) -> list[Split]:
    """Return every kind of split of the cohort that is possible."""
    splits: list[Split] = []
    makers: list[Callable[[], list[Split]]] = [
        lambda: [hold_out(records, 0.2, 0.2, seed)],
        lambda: k_folds(records, 3, seed),
        lambda: leave_one_site_out(records),
    ]
    for make in makers:
        try:
            splits += make()
        except UsageError:
            continue
    return splits


@given(cohorts(), st.integers(0, 3))
def test_no_patient_is_on_two_sides_and_every_slide_on_one(records: Records, seed: int) -> None:
    for split in made(records, seed):
        sides = split.sides()
        patients = {name: {r.patient for r in side} for name, side in sides.items()}
        assert sum(len(p) for p in patients.values()) == len(set().union(*patients.values()))
        assert sorted(r.slide for side in sides.values() for r in side) == sorted(r.slide for r in records)
        assert {r.slide for r in records if r.split == "test"} <= {r.slide for r in split.test}


@given(cohorts(), st.integers(0, 3))
def test_every_split_can_learn_every_label(records: Records, seed: int) -> None:
    for split in made(records, seed):
        learnt = {r.label for r in split.train}
        assert {r.label for r in (*split.train, *split.validation)} == learnt
        if split.name == "hold-out":
            assert {r.label for r in split.validation} == learnt


@given(cohorts(15), st.integers(0, 3), st.randoms())
@settings(max_examples=40)
def test_row_order_does_not_matter(records: Records, seed: int, order: random.Random) -> None:
    shuffled = records[:]
    order.shuffle(shuffled)

    def names(splits: Sequence[Split]) -> list[list[set[str]]]:
        return [[{r.slide for r in side} for side in s.sides().values()] for s in splits]

    assert names(made(records, seed)) == names(made(shuffled, seed))


@given(st.lists(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True), min_size=2, max_size=8))
@settings(max_examples=150)
def test_every_label_is_on_every_side_where_any_split_has_it_so(patients: list[list[str]]) -> None:
    """Compared with all splits that there are, patients of several labels included."""
    records = [record(10 * p + k, f"p{p}", label) for p, own in enumerate(patients) for k, label in enumerate(own)]
    every = {label for own in patients for label in own}

    def fine(sides: Sequence[int]) -> bool:
        return all(
            every == {x for own, s in zip(patients, sides, strict=True) if s == side for x in own} for side in (0, 1)
        )

    possible = any(fine(sides) for sides in product((0, 1), repeat=len(patients)))
    try:
        train, held_out = split_by_patient(records, 0.3, 0)
    except UsageError:
        assert not possible
    else:
        assert {r.label for r in train} == {r.label for r in held_out} == every


def test_the_only_patient_of_a_label_is_not_drawn_to_test() -> None:
    """Regression: a trade of lacking labels left ossification on test slides alone, without an error."""
    rows = [("p0", LABELS[1]), ("p0", LABELS[2]), ("p1", LABELS[2]), ("p2", LABELS[2])]
    rows += [(f"n{k}", LABELS[0]) for k in range(6)]
    records = [record(k, patient, label) for k, (patient, label) in enumerate(rows)]
    for seed in range(5):
        with pytest.raises(UsageError, match=f"label {LABELS[1]} has 1 patient and would have none to"):
            hold_out(records, 0.2, 0.2, seed)


@pytest.mark.parametrize("seed", range(5))
def test_hold_out_takes_its_shares_of_every_label_and_site(seed: int) -> None:
    records = [record(n, f"p{n}", LABELS[n % 3], site="AB"[n // 3 % 2]) for n in range(120)]
    split = hold_out(records, 0.2, 0.1, seed)
    for side, share in ((split.test, 0.1), (split.validation, 0.2), (split.train, 0.7)):
        assert Counter(r.label for r in side) == dict.fromkeys(LABELS, share * 40)
        sites = Counter((r.label, r.site) for r in side)
        assert all(abs(n - share * 20) <= 1 for n in sites.values())


@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_are_even_in_patients_labels_and_sites(folds: int) -> None:
    records = [record(n, f"p{n}", LABELS[n % 3], site="ABBB"[n // 3 % 4]) for n in range(61)]
    splits = k_folds(records, folds, seed=1)
    for key in (lambda r: "all", lambda r: r.label, lambda r: (r.label, r.site)):
        counts = [Counter(key(r) for r in s.validation) for s in splits]
        for value in {key(r) for r in records}:
            found = [c[value] for c in counts]
            assert max(found) - min(found) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_patients_of_several_labels_are_dealt_by_their_rarest(seed: int) -> None:
    """Most of their slides are normal, as are most patients."""
    records = [record(n, f"p{n // 3}", LABELS[1] if n < 12 and n % 3 == 0 else "normal") for n in range(72)]
    counts = [Counter(r.label for r in s.validation) for s in k_folds(records, 4, seed)]
    assert [c[LABELS[1]] for c in counts] == [1, 1, 1, 1]


def test_folds_of_another_seed_are_other_folds() -> None:
    records = [record(n, f"p{n}", LABELS[n % 3]) for n in range(30)]
    first, again, other = ([{r.slide for r in s.validation} for s in k_folds(records, 3, seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", range(3))
def test_three_patients_of_a_label_are_enough_for_three_sides(seed: int) -> None:
    """Half of three patients would be two to test on, and leave one for two sides."""
    split = hold_out([record(n, f"p{n}", LABELS[n % 3]) for n in range(9)], 0.2, 0.5, seed)
    assert all(Counter(r.label for r in side) == dict.fromkeys(LABELS, 1) for side in split.sides().values())


def test_every_slide_is_held_out_by_one_fold_and_tested_by_none() -> None:
    records = [record(n, f"p{n // 2}", LABELS[n // 2 % 3], "test" if n < 6 else "train") for n in range(40)]
    splits = k_folds(records, 4, seed=0)
    assert Counter(r.slide for s in splits for r in s.validation) == {f"s{n}": 1 for n in range(6, 40)}
    assert all({r.slide for r in s.test} == {f"s{n}" for n in range(6)} for s in splits)


def test_each_site_is_left_out_once() -> None:
    records = [record(n, f"p{n}", LABELS[n % 3], site="ABC"[n // 3 % 3]) for n in range(27)]
    splits = leave_one_site_out(records)
    assert [s.name for s in splits] == ["without A", "without B", "without C"]
    assert [{r.site for r in s.validation} for s in splits] == [{"A"}, {"B"}, {"C"}]
    assert all(len(s.train) == 18 for s in splits)


def test_fixed_test_patients_are_the_test_set_and_no_more_are_drawn() -> None:
    records = [record(n, f"p{n}", LABELS[n % 3], "test" if n < 3 else None) for n in range(30)]
    assert {r.patient for r in hold_out(records, 0.2, 0.4, 0).test} == {"p0", "p1", "p2"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: hold_out(r, 0.5, 0.5, 0), "leave nothing to train on"),
        (lambda r: hold_out(r, 0.0, 0.2, 0), "a validation share of 0"),
        (lambda r: k_folds(r, 1, 0), "1 folds cannot be made of 6 patients; ask for 2 to 6"),
        (lambda r: k_folds(r, 7, 0), "7 folds cannot be made of 6 patients"),
        (lambda r: leave_one_site_out(r), r"6 slide\(s\) have no site"),
        (lambda r: leave_one_site_out([record(n, f"p{n}", site="A") for n in range(3)]), "needs two sites"),
        (
            lambda r: leave_one_site_out([record(n, "p1", site="AB"[n]) for n in range(2)]),
            "patient p1 would be in train and validation",
        ),
        (
            lambda r: leave_one_site_out([record(n, f"p{n}", LABELS[n % 2], site="AB"[n % 2]) for n in range(8)]),
            "would have none to train without",
        ),
        (lambda r: k_folds([*r, record(9, "p9", LABELS[1])], 2, 0), "calcinosis_cutis has 1 patient and would"),
        (lambda r: hold_out([*r, record(8, "a", LABELS[1]), record(9, "b", LABELS[1])], 0.2, 0.2, 0), "has 2 patients"),
        (lambda r: refuse_leaks({"train": r, "test": [record(99, "P1")]}), "patient p1 would be in test and train"),
        (lambda r: refuse_leaks({"train": r, "test": [record(1, "new")]}), "slide s1 would be in test and train"),
        (
            lambda r: refuse_leaks({"train": r, "test": [SlideRecord("new", Path("a/../1.svs"), "new", "normal")]}),
            "file 1.svs would be in test and train",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_one_sentence(make: Callable[[Records], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make([record(n, f"p{n}") for n in range(6)])


def test_patients_who_are_marked_to_validate_are_part_of_the_share() -> None:
    """Regression: the share was drawn on top of them."""
    marked = [record(k, f"p{k}", LABELS[k % 2], "validation" if k < 10 else None) for k in range(40)]
    _, validation = split_by_patient(marked, 0.25, 0)
    assert len(validation) == 10
    _, validation = split_by_patient(marked, 0.5, 0)
    assert len(validation) == 20


def test_few_marked_test_patients_leave_more_to_validate_on() -> None:
    marked = [record(k, f"p{k}", LABELS[k % 2], "test" if k < 4 else None) for k in range(40)]
    assert len(hold_out(marked, 0.25, 0.25, 0).validation) == 10
    many = [record(k, f"p{k}", LABELS[k % 2], "test" if k < 24 else None) for k in range(40)]
    assert 4 <= len(hold_out(many, 0.25, 0.25, 0).validation) <= 6, "a third of the rest, which would all be taken"


def test_two_encodings_of_a_patient_are_one_patient() -> None:
    """Regression: an accent that is encoded as two characters made another patient, on the other side."""
    with pytest.raises(UsageError, match="patient m\u00fcller would be in test and train"):
        Split("x", (record(1, "M\u00fcller"),), (), (record(2, "Mu\u0308ller"),))


def test_two_spellings_of_a_patient_are_one_patient() -> None:
    with pytest.raises(UsageError, match="patient p1 would be in"):
        Split("x", (record(1, "P1"),), (record(2, "p1"),))
