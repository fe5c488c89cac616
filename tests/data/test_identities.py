"""What a card keeps of slides and patients: enough to know one again, and no names."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.identities import LEARNT_FROM, STARTED_FROM, Known, hashed_patient, identities, told_apart

NAMES = st.lists(st.text(min_size=1, max_size=8), max_size=6)


@given(NAMES, NAMES)
def test_exactly_the_known_patients_are_seen(trained: list[str], asked: list[str]) -> None:
    known = Known.by({LEARNT_FROM: identities([], trained)}, LEARNT_FROM)
    names = set(map(told_apart, trained))
    assert [known.has_patient(p) for p in asked] == [told_apart(p) in names for p in asked]


def test_spelling_makes_no_other_patient() -> None:
    # Bug: P01 of one manifest and p01 of another, or an accent written by another system, were two people.
    assert hashed_patient("P01") == hashed_patient("p01") != hashed_patient("p1")
    assert hashed_patient(normalize("NFD", "Müller")) == hashed_patient("Müller")
    # Bug: two spaces, a space that doesn't break, one without width and letters of full width were other people.
    for name in ("Mueller  Hans", " Mueller\u00a0Hans", "Mueller\u200b Hans", "Ｍueller Hans"):
        assert hashed_patient(name) == hashed_patient("Mueller Hans") != hashed_patient("MuellerHans")


@pytest.mark.parametrize("name", ["Groß", "ΐδα"])
def test_capitals_make_no_other_patient_in_any_script(name: str) -> None:
    """Some letters are two in capitals, and some accents join their letter in one case alone."""
    assert told_apart(name.upper()) == told_apart(name)


def test_lists_under_several_keys_are_read_as_one_and_none_is_no_empty_one() -> None:
    training = {STARTED_FROM: identities(["aa"], ["p01"]), LEARNT_FROM: identities(["aa", "bb"], []), "seed": 1}
    known = Known.by(training, STARTED_FROM, LEARNT_FROM)
    assert known.for_card() == identities(["aa", "bb"], ["p01"])
    assert not Known.by(training, LEARNT_FROM).has_patient("p01")
    assert Known.by({LEARNT_FROM: identities([], [])}, LEARNT_FROM).is_listed
    assert not Known.by(training, "reference_of").is_listed
    assert Known.by(training, "reference_of").for_card() == {}
    null = Known.by({LEARNT_FROM: {"slides_sha256": None}}, LEARNT_FROM)
    assert null.for_card() == identities([], [])


def test_a_card_lists_what_is_known_in_one_order() -> None:
    kept = identities(map(str, range(12)), map(str, range(12)))
    assert Known.by({LEARNT_FROM: kept}, LEARNT_FROM).for_card() == kept
    assert all(names == sorted(names) for names in kept.values())


def test_nothing_is_kept_twice_or_by_name() -> None:
    kept = identities(["bb", "aa", "bb"], ["Jane Doe", "Jane Doe"])
    assert kept["slides_sha256"] == ["aa", "bb"]
    assert len(kept["patients_sha256"]) == 1
    assert "Jane" not in str(kept)


def test_a_patient_s_hash_is_no_slide_s() -> None:
    """The name of a patient may be the SHA-256 of a slide; it is hashed with a word before it."""
    digest = "ab" * 32
    assert not Known.by({LEARNT_FROM: identities([digest], [])}, LEARNT_FROM).has_patient(digest)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Yıldız", "YILDIZ"), ("İBRAHİM", "İbrahim"), ("İbrahim", "ibrahim"), ("İbrahim", "İbrahim".lower())],
)
def test_turkish_capitals_do_not_tell_people_apart(one, other):
    """Regression: one patient written both ways counted as two, and could be learnt from and tested on."""
    assert told_apart(one) == told_apart(other)
