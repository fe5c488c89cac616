"""Numbers in sentences: beside the limit they are compared with, and before what they count."""

_MOST_DIGITS = 12


def beside(value: float, limit: float, digits: int) -> str:
    """Return a number with `digits` decimals, or with as many as tell it from the limit that it is compared with.

    >>> beside(0.734, 0.8, 2), beside(0.7951, 0.8, 2), beside(0.7999, 0.8, 2), beside(0.8, 0.8, 2)
    ('0.73', '0.795', '0.7999', '0.80')
    """
    if value != limit:
        while digits < _MOST_DIGITS and round(value, digits) == round(limit, digits):
            digits += 1
    return f"{value:.{digits}f}"


def counted(number: int, what: str) -> str:
    """Return a number and what it counts, in the plural unless it is one.

    >>> counted(1, "slide"), counted(0, "patient")
    ('1 slide', '0 patients')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"
