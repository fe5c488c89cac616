"""What every reader returns: one object of an annotation file, as it was drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from histo.outlines import Ring

MAX_LEVEL0_PX = 1e7  # no slide is larger
LONGEST_SHOWN = 60
UNCLASSIFIED = "unclassified"  # the word for objects to which a file gives no class


@dataclass(frozen=True)
class Drawn:
    """One object: `place` as the file counts it, `words` that may name its class (the most telling first).

    `polygons` are an exterior ring and its holes each, level-0 px, exactly as drawn: they may cross themselves, and
    stay open unless the format closes rings by itself. `problem` says why there is nothing to learn from; `area`
    is False when that is because the object is no area at all (a point, a line).
    """

    place: str
    words: tuple[str, ...]
    polygons: tuple[tuple[Ring, ...], ...] = ()
    problem: str | None = None
    area: bool = True


def words_of(classes: Iterable[Any], names: Iterable[Any] = (), colours: Iterable[Any] = ()) -> tuple[str, ...]:
    """Return the words that may name an object's class: its classes, or its names where it has none, then its colours.

    A class that nobody explained is asked about, and no name overrules it. Only an object without any class is
    `UNCLASSIFIED` too, so that what is said of those touches no other.
    """
    named, called, painted = (
        [c.strip() for c in some if isinstance(c, str) and c.strip()] for some in (classes, names, colours)
    )
    return tuple(dict.fromkeys([*named, *painted] if named else [*called, *painted, UNCLASSIFIED]))


def shown(text: object) -> str:
    """Return text of a stranger's file as a message may show it: short, on one line, nothing but print."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return plain if len(plain) <= LONGEST_SHOWN else plain[:LONGEST_SHOWN] + "…"


def place_of(count: str, name: object = None) -> str:
    """Return an object's place, with its name where it has one."""
    return f"{count} ({shown(name)})" if isinstance(name, str) and name.strip() else count


def no_area(place: str, words: tuple[str, ...], kind: object) -> Drawn:
    """Return an object that is no polygon."""
    return Drawn(place, words, problem=f"is a {shown(kind)}; only polygons have an area to learn from", area=False)


def broken(place: str, words: tuple[str, ...], error: Exception | str) -> Drawn:
    """Return an object whose coordinates make no sense."""
    return Drawn(place, words, problem=f"has broken coordinates ({error}); draw or export it again")


def ring_of(points: Iterable[Sequence[Any]]) -> Ring:
    """Return points (x, y, anything) as a ring of level-0 px.

    Raises `ValueError` when they are no numbers, too large for any slide, or fewer than three.
    """
    ring = tuple((number(p[0]), number(p[1])) for p in points)
    if any(abs(v) >= MAX_LEVEL0_PX for xy in ring for v in xy):
        raise ValueError("a coordinate far too large")
    if len(ring) < 3:
        raise ValueError(f"{len(ring)} points, and an outline needs three")
    return ring


def number(value: Any) -> float:
    """Return a coordinate; text may have a decimal comma. Raises `ValueError` for what is no finite number."""
    if isinstance(value, str):
        value = value.strip().replace(",", ".")
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a coordinate that is no number")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise ValueError("a coordinate that is no number") from None
    if not isfinite(result):
        raise ValueError("a coordinate that is no number")
    return result
