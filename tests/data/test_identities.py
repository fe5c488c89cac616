"""What a card keeps of slides and patients: enough to know one again, and no names."""

from unicodedata import normalize

from hypothesis import given
from hypothesis import strategies as st

from histo.data.identities import LEARNT_FROM, STARTED_FROM, hashed_patient, identities, known_to_start, seen

NAMES = st.lists(st.text(min_size=1, max_size=8), max_size=6)


@given(NAMES, NAMES)
def test_exactly_the_known_patients_are_seen(trained: list[str], asked: list[str]) -> None:
    kept = identities([], trained)
    known = {normalize("NFC", p).casefold() for p in trained}
    wanted = [p for p in asked if normalize("NFC", p).casefold() in known]
    assert seen(asked, [hashed_patient(p) for p in asked], kept) == wanted


def test_spelling_makes_no_other_patient() -> None:
    # Bug: P01 of one manifest and p01 of another, or an accent written by another system, were two people.
    assert hashed_patient("P01") == hashed_patient("p01") != hashed_patient("p1")
    assert hashed_patient(normalize("NFD", "Müller")) == hashed_patient("Müller")


def test_patients_whom_the_start_has_seen_are_told() -> None:
    training = {STARTED_FROM: identities([], ["p01", "p02"]), LEARNT_FROM: identities([], ["p03"])}
    assert known_to_start(training, ["p03", "P02", "p04", "P02"]) == ["P02"]
    assert known_to_start({}, ["p01"]) == []


def test_nothing_is_kept_twice_or_by_name() -> None:
    kept = identities(["bb", "aa", "bb"], ["Jane Doe", "Jane Doe"])
    assert kept["slides_sha256"] == ["aa", "bb"]
    assert len(kept["patients_sha256"]) == 1
    assert "Jane" not in str(kept)


def test_a_patient_s_hash_is_no_slide_s() -> None:
    """The name of a patient may be the SHA-256 of a slide; it is hashed with a word before it."""
    digest = "ab" * 32
    assert seen([digest], [hashed_patient(digest)], identities([digest], [])) == []
