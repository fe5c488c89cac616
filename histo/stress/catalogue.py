"""The forty tests in order, and how a user names some of them."""

from collections.abc import Sequence
from typing import Final

from histo.errors import UsageError
from histo.stress.determinism import DETERMINISM
from histo.stress.invariance import INVARIANCE
from histo.stress.lessons import LESSONS
from histo.stress.negatives import NEGATIVES, UNSEEN_TISSUE
from histo.stress.positives import POSITIVES
from histo.stress.trial import Trial

CATALOGUE: Final[tuple[Trial, ...]] = (*INVARIANCE, *NEGATIVES, *POSITIVES, *LESSONS, DETERMINISM, UNSEEN_TISSUE)


def select(words: str | None) -> list[Trial]:
    """Return the tests that comma-separated numbers, ranges (`14-26`), names or groups name; all without words.

    Raises `UsageError` that lists what there is.
    """
    if words is None:
        return list(CATALOGUE)
    wanted: set[int] = set()
    for word in (w.strip() for w in words.split(",")):
        found = _named(word)
        if not found:
            names = ", ".join(f"{t.number} {t.name}" for t in CATALOGUE)
            groups = ", ".join(dict.fromkeys(t.group for t in CATALOGUE))
            raise UsageError(f"--tests {word!r} is no stress test; use groups ({groups}), numbers, or names: {names}")
        wanted |= found
    return [t for t in CATALOGUE if t.number in wanted]


def _named(word: str) -> set[int]:
    first, dash, last = word.partition("-")
    if first.isdigit() and (last.isdigit() if dash else True):
        span: Sequence[int] = range(int(first), int(last or first) + 1)
        return {t.number for t in CATALOGUE if t.number in span}
    return {t.number for t in CATALOGUE if word in (t.name, t.group)}
