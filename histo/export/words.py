"""How names, numbers and file names are put into words for a pathologist."""

import re
from collections.abc import Iterable, Mapping
from string import ascii_uppercase

from histo.results import Lesion, ModelInfo
from histo.wording import none_of, pretty, printable

SHORT_DIGEST = 12


def share_words(part: float, whole: float) -> str:
    """Return `part` of `whole` in percent.

    >>> share_words(1, 8), share_words(1, 1e6), share_words(0, 0)
    ('12.5 %', '< 0.1 %', '–')
    """
    if not whole > 0:
        return "–"
    percent = 100 * part / whole
    return "0 %" if percent == 0 else "< 0.1 %" if percent < 0.05 else f"{percent:.1f} %"


def share_of_one(value: float | None) -> str:
    """Return a share in percent, a dash where there is none.

    >>> share_of_one(0.125), share_of_one(1.0), share_of_one(None)
    ('12.5 %', '100.0 %', '–')
    """
    return "–" if value is None else share_words(value, 1.0)


def length_words(value: float | None) -> str:
    """Return a length in mm with two decimals, a dash where it is not known.

    >>> length_words(1.234), length_words(0.001), length_words(None)
    ('1.23', '< 0.01', '–')
    """
    if value is None or value != value:
        return "–"
    return "0" if value == 0 else "< 0.01" if value < 0.005 else f"{value:.2f}"


def short_digest(digest: str) -> str:
    """Return the part of a digest that is enough to tell models apart on a picture."""
    return printable(digest.removeprefix("sha256:"))[:SHORT_DIGEST]


def model_words(model: ModelInfo) -> str:
    """Return the model's name and short digest."""
    return f"{printable(model.name)} · {short_digest(model.digest)}"


def label_words(label: str, model: ModelInfo) -> str:
    """Return a slide label as a pathologist would read it: a carcinoma without a finding is not normal."""
    return pretty(none_of(c.name for c in model.classes) if label == model.normal_label else label)


def marks(lesions: Iterable[Lesion]) -> Mapping[str, str]:
    """Return a short mark per lesion id, the same on pictures and in tables: `B2` is the bone lesion number 2.

    The number is the one at the end of the lesion's name, or its place among its class where that is not unique.
    """
    by_class: dict[str, list[Lesion]] = {}
    for lesion in lesions:
        by_class.setdefault(lesion.class_name, []).append(lesion)
    prefixes = _prefixes(list(by_class))
    found: dict[str, str] = {}
    for name, members in by_class.items():
        ends = [re.search(r"(\d+)\s*$", lesion.name) for lesion in members]
        numbers = [end.group(1) if end else "" for end in ends]
        if "" in numbers or len(set(numbers)) < len(numbers):
            numbers = [str(i + 1) for i in range(len(members))]
        found |= {lesion.lesion_id: prefixes[name] + n for lesion, n in zip(members, numbers, strict=True)}
    return found


def _prefixes(names: list[str]) -> dict[str, str]:
    """Return for each name the shortest beginning of its letters that tells it from the others, or all of them.

    Digits follow it, so it has none: where names differ in nothing else (`bone`, `bone2`), all get letters of the
    alphabet.
    """
    letters = {name: "".join(filter(str.isalpha, pretty(name))) for name in names}
    found = {name: _own_beginning(of, list(letters.values())) for name, of in letters.items()}
    if len({*found.values()} - {""}) == len(names):
        return found
    return {name: ascii_uppercase[k % 26] * (k // 26 + 1) for k, name in enumerate(names)}


def _own_beginning(word: str, words: list[str]) -> str:
    beginnings = (word[:n] for n in range(1, len(word) + 1))
    return next((b for b in beginnings if sum(other.startswith(b) for other in words) == 1), word)
