"""Which slides and patients a model has seen, so that nobody tests or calibrates on them by mistake."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

# Keys of a card's training section.
LEARNT_FROM = "learnt_from"
CALIBRATED_ON = "calibrated_on"
REFERENCE_OF = "reference_of"  # what foreign tissue is told by
STARTED_FROM = "start_learnt_from"  # what the weights that training started from had learnt from
START_CALIBRATED_ON = "start_calibrated_on"  # what its slide scores were fitted on, which folds keep


def told_apart(name: str) -> str:
    """Return that of a name by which persons and slides are told apart.

    Not capitals, nor how an accent or a width is encoded, nor how many spaces lie between words, nor what is not seen.

    >>> told_apart("M\u00fcller Hans") == told_apart("MU\u0308LLER\u00a0 Hans\u200b")
    True
    """
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    plain = seen.casefold().replace("i\u0307", "i").replace("ı", "i")  # of Turkish capitals İ and I
    return " ".join(unicodedata.normalize("NFKC", plain).split())


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


@dataclass(frozen=True)
class Known:
    """The slides and patients that a card's training section lists, by their SHA-256, and whether it lists any at all.

    >>> known = Known.by({"a": {"slides_sha256": ["00"]}, "b": {"slides_sha256": ["11"]}}, "a", "b", "c")
    >>> known.has_slide("11"), known.has_patient("p01"), known.is_listed, Known.by({}, "a").is_listed
    (True, False, True, False)
    """

    slides_sha256: frozenset[str]
    patients_sha256: frozenset[str]
    is_listed: bool

    @classmethod
    def by(cls, training: Mapping[str, Any], *keys: str) -> Self:
        """Return what stands under any of the keys; what is no list of theirs is passed over."""
        lists = [kept for key in keys if isinstance(kept := training.get(key), Mapping)]
        slides, patients = (
            frozenset(digest for kept in lists for digest in kept.get(name) or ())
            for name in ("slides_sha256", "patients_sha256")
        )
        return cls(slides, patients, bool(lists))

    def has_slide(self, sha256: str) -> bool:
        """Tell whether the slide of this content is listed."""
        return sha256 in self.slides_sha256

    def has_patient(self, patient: str) -> bool:
        """Tell whether a patient of this name is listed."""
        return hashed_patient(patient) in self.patients_sha256

    def for_card(self) -> dict[str, list[str]]:
        """Return both lists as one entry of a card; empty where nothing was listed."""
        if not self.is_listed:
            return {}
        return {"slides_sha256": sorted(self.slides_sha256), "patients_sha256": sorted(self.patients_sha256)}
