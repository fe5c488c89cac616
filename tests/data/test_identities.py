"""What a card keeps of slides and patients: enough to know one again, and no names."""

from hypothesis import given
from hypothesis import strategies as st

from histo.data.identities import hashed_patient, identities, seen

NAMES = st.lists(st.text(min_size=1, max_size=8), max_size=6)


@given(NAMES, NAMES)
def test_exactly_the_known_patients_are_seen(trained: list[str], asked: list[str]) -> None:
    kept = identities([], trained)
    assert seen(asked, [hashed_patient(p) for p in asked], kept) == [p for p in asked if p in trained]


def test_nothing_is_kept_twice_or_by_name() -> None:
    kept = identities(["bb", "aa", "bb"], ["Jane Doe", "Jane Doe"])
    assert kept["slides_sha256"] == ["aa", "bb"]
    assert len(kept["patients_sha256"]) == 1
    assert "Jane" not in str(kept)


def test_a_patient_s_hash_is_no_slide_s() -> None:
    """The name of a patient may be the SHA-256 of a slide; it is hashed with a word before it."""
    digest = "ab" * 32
    assert seen([digest], [hashed_patient(digest)], identities([digest], [])) == []
