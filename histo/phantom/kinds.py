"""The kinds of slides that can be asked for by name, and the label of each in a manifest."""

from typing import Final

from histo.errors import UsageError
from histo.phantom.artefacts import ARTEFACTS, CHANCES
from histo.phantom.confounders import CONFOUNDERS, SHIFT_ONLY
from histo.phantom.recipe import DOMAINS, KINDS, LABELS

LOOK_ALIKES: Final = (*CONFOUNDERS, *CHANCES)
IDS: Final = {"calcification": 1, "bone": 2} | CONFOUNDERS | ARTEFACTS
_PREFIX = "confounder:"
_SHORT: Final = {
    "calcium": "calcinosis_cutis",
    "calcification": "calcinosis_cutis",
    "bone": "heterotopic_ossification",
}


def check_domain(domain: str) -> str:
    """Return the domain, or raise UsageError that lists all of them."""
    if domain not in DOMAINS:
        raise UsageError(f"unknown phantom domain {domain!r}; choose one of {', '.join(DOMAINS)}")
    return domain


def check_kind(kind: str, domain: str) -> str:
    """Return the kind's full name; `bone`, `calcium` and `calcification` are short for the labels they lead to.

    Raises UsageError for an unknown kind and for a look-alike that the training domain never shows.
    """
    kind = _SHORT.get(kind, kind)
    name = look_alike(kind)
    if name is None:
        if kind not in KINDS:
            raise UsageError(
                f"unknown phantom kind {kind!r}; choose one of {', '.join(KINDS)}, or {_PREFIX}NAME for one look-alike"
            )
        return kind
    if name not in LOOK_ALIKES:
        raise UsageError(f"unknown look-alike {name!r} in kind {kind!r}; choose one of {', '.join(LOOK_ALIKES)}")
    check_look_alike(name, domain)
    return kind


def check_look_alike(name: str, domain: str) -> None:
    """Refuse what the training domain keeps back: a model that has seen it can no longer be tested with it."""
    if domain == "train" and name in SHIFT_ONLY:
        raise UsageError(
            f"the look-alike {name} is kept from the training domain, so that it stays unseen; "
            "ask for it in domain shift or extreme"
        )


def look_alike(kind: str) -> str | None:
    """Return NAME of a kind `confounder:NAME`, else None."""
    return kind.removeprefix(_PREFIX) if kind.startswith(_PREFIX) else None


def label_of(kind: str, lesions: bool = True) -> str:
    """Return the manifest's label; a slide whose lesions are left out is normal."""
    return LABELS[kind] if lesions and kind in LABELS else LABELS["normal"]
