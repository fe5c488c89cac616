"""Numbers in words: areas, probabilities, a number beside the limit it is compared with, and before what it counts."""

from collections.abc import Iterable

_MOST_DIGITS = 12


def printable(text: str) -> str:
    """Return the text in one line that every viewer, font and XML parser takes.

    What cannot be printed (broken file names, control and direction characters) becomes a replacement mark.

    >>> printable("a\\tb\\udc80")
    'a b\\ufffd'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def pretty(name: str) -> str:
    """Return a label or class name as a pathologist would write it.

    >>> pretty("calcinosis_cutis")
    'Calcinosis cutis'
    """
    words = printable(name).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def none_of(classes: Iterable[str]) -> str:
    """Return what a slide without a finding is, which need not be normal.

    >>> none_of(["bone", "fat_necrosis"])
    'no bone or fat necrosis'
    """
    return f"no {' or '.join(pretty(name).lower() for name in classes)}"


def beside(value: float, limit: float, digits: int) -> str:
    """Return a number with `digits` decimals, or with as many as tell it from the limit that it is compared with.

    >>> beside(0.734, 0.8, 2), beside(0.7951, 0.8, 2), beside(0.7999, 0.8, 2), beside(0.8, 0.8, 2)
    ('0.73', '0.795', '0.7999', '0.80')
    """
    if value != limit:
        while digits < _MOST_DIGITS and round(value, digits) == round(limit, digits):
            digits += 1
    return f"{value:.{digits}f}"


def area_words(value: float) -> str:
    """Return an area in mm² with three decimals, so that columns line up; what is there never reads as zero.

    >>> area_words(1.23456), area_words(0.0001), area_words(0.0)
    ('1.235', '< 0.001', '0')
    """
    if value != value:
        return "–"
    return "0" if value == 0 else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def counted(number: int, what: str) -> str:
    """Return a number and what it counts, in the plural unless it is one.

    >>> counted(1, "slide"), counted(0, "patient")
    ('1 slide', '0 patients')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def percent_beside(share: float, limit: float) -> str:
    """Return a share in percent, told from the limit that it is compared with.

    >>> percent_beside(0.73, 0.5), percent_beside(0.104, 0.1)
    ('73 %', '10.4 %')
    """
    return f"{beside(100 * share, 100 * limit, 0)} %"


def probability_words(value: float) -> str:
    """Return a probability with two decimals, never as certain.

    >>> probability_words(0.9999), probability_words(0.25), probability_words(0.0)
    ('> 0.99', '0.25', '< 0.01')
    """
    if value != value:
        return "–"
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"
