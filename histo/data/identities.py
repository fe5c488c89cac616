"""Which slides and patients a model has seen, so that nobody tests or calibrates on them by mistake."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Keys of a card's training section.
LEARNT_FROM = "learnt_from"
CALIBRATED_ON = "calibrated_on"
REFERENCE_OF = "reference_of"  # what foreign tissue is told by
STARTED_FROM = "start_learnt_from"  # what the weights that training started from had learnt from


def told_apart(name: str) -> str:
    """Return that of a name by which persons and slides are told apart: not capitals, nor how an accent is encoded.

    >>> told_apart("M\u00fcller") == told_apart("MU\u0308LLER")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def hashed_patient(patient: str) -> str:
    """Return the SHA-256 of a patient's name: a card tells whether a name is known, and doesn't list names.

    Someone who can guess names can still look for them; cards of real patients stay in the house.
    """
    return hashlib.sha256(f"histo patient {told_apart(patient)}".encode()).hexdigest()


def identities(slides_sha256: Iterable[str], patients: Iterable[str]) -> dict[str, list[str]]:
    """Return what a card keeps of the slides and patients that something was fitted on."""
    return {
        "slides_sha256": sorted(set(slides_sha256)),
        "patients_sha256": sorted({hashed_patient(p) for p in patients}),
    }


def merged(training: Mapping[str, Any], keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the lists that a card's training section has under any of the keys as one; empty where it has none.

    >>> merged({"a": {"slides_sha256": ["00"]}, "b": {"slides_sha256": ["11", "00"]}}, ["a", "b", "c"])
    {'slides_sha256': ['00', '11'], 'patients_sha256': []}
    """
    lists = [kept for key in keys if isinstance(kept := training.get(key), Mapping)]
    if not lists:
        return {}
    names = ("slides_sha256", "patients_sha256")
    return {name: sorted({digest for kept in lists for digest in kept.get(name) or ()}) for name in names}


def known_to_start(training: Mapping[str, Any], patients: Iterable[str]) -> list[str]:
    """Return those patients that the start of a training had learnt from, by the card's training section."""
    names = sorted(set(patients))
    return seen(names, [hashed_patient(p) for p in names], merged(training, (STARTED_FROM,)))


def seen(names: Sequence[str], sha256: Sequence[str], kept: Mapping[str, Any]) -> list[str]:
    """Return those `names` whose SHA-256, at the same place, is in a list that a card kept under one key.

    >>> seen(["a", "b"], ["00", "11"], {"slides_sha256": ["11"]})
    ['b']
    """
    known = {digest for some in kept.values() for digest in some}
    return [name for name, digest in zip(names, sha256, strict=True) if digest in known]
