"""Shares with their intervals, and how many slides an interval of a given width takes.

A figure is a plain dictionary that JSON holds as it is: `value`, `hits`, `n`, `low`, `high`; None where nothing can
be said. No share leaves this package without its n and its interval.
"""

import math
from collections.abc import Sequence
from typing import Any

from histo.statistics import clopper_pearson

Figure = dict[str, Any]

_MOST = 100_000
_HALF_WIDTH = 0.05


def share(hits: int, n: int) -> Figure:
    """Return a share with its two-sided 95 % interval (Clopper and Pearson 1934).

    >>> figure = share(10, 10)
    >>> figure["value"], round(figure["low"], 2), figure["high"]
    (1.0, 0.69, 1.0)
    """
    low, high = clopper_pearson(hits, n)
    value = hits / n if n else None
    return {"value": value, "hits": hits, "n": n, "low": low if n else None, "high": high if n else None}


def mean_of_shares(hits: Sequence[int], counts: Sequence[int]) -> Figure:
    """Return the mean of shares over groups that weigh alike, such as balanced accuracy.

    The interval is squared and added (Zou and Donner 2008) from the exact ones of all groups, so that a group of few
    slides widens it as it should; unlike the bootstrap it does not shrink to a point when every slide is right.

    >>> figure = mean_of_shares([100, 100, 5], [100, 100, 5])
    >>> figure["value"], round(figure["low"], 3), figure["high"]
    (1.0, 0.825, 1.0)
    """
    shares = [share(h, n) for h, n in zip(hits, counts, strict=True) if n]
    if not shares:
        return {"value": None, "hits": 0, "n": 0, "low": None, "high": None}
    value = sum(s["value"] for s in shares) / len(shares)
    below, above = (math.hypot(*(s["value"] - s[end] for s in shares)) / len(shares) for end in ("low", "high"))
    return {
        "value": value,
        "hits": sum(s["hits"] for s in shares),
        "n": sum(s["n"] for s in shares),
        "low": max(0.0, value - below),
        "high": min(1.0, value + above),
    }


def number(value: Any) -> float | None:
    """Return a number as JSON holds it; None for one that does not exist (NaN)."""
    return float(value) if math.isfinite(value) else None


def half_width(figure: Figure) -> float | None:
    """Return half the width of a figure's interval."""
    return None if figure["low"] is None else float(figure["high"] - figure["low"]) / 2


def needed(value: float) -> int:
    """Return the least number of slides at which the exact interval of a share is at most ± 5 points wide.

    Riley et al. 2024 (BMJ 384:e074821): the size follows from the precision that is wanted, not from a rule of thumb.

    >>> needed(1.0), needed(0.9)
    (36, 158)
    """

    def wide(n: int) -> bool:
        low, high = clopper_pearson(value * n, n)
        return (high - low) / 2 > _HALF_WIDTH

    below, above = 1, 2
    while wide(above) and above < _MOST:
        below, above = above, 2 * above
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if wide(middle) else (below, middle)
    return above


def words(figure: Figure) -> str:
    """Return a figure in words: value, interval, hits of n.

    >>> words(share(9, 10)), words(share(0, 0))
    ('0.900 (0.555 to 0.997), 9 of 10', 'none to judge')
    """
    if figure.get("value") is None:
        return "none to judge"
    text = f"{figure['value']:.3f}"
    if figure.get("low") is not None:
        text += f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return text + (f", {figure['hits']} of {figure['n']}" if "hits" in figure else f", n {figure['n']}")
