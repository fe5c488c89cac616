"""Numbers in sentences that compare them with a limit."""

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
