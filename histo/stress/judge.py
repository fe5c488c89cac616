"""From counts to pass or fail: every check states its n, and a clean sheet of too few slides is no pass."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from histo.statistics import clopper_pearson
from histo.stress.seen import Seen

Outcome = Literal["pass", "fail", "insufficient n", "reported", "not run"]
_ORDER: Final[tuple[Outcome, ...]] = ("fail", "not run", "insufficient n", "pass", "reported")
_SLACK: Final = 1e-9


@dataclass(frozen=True)
class Check:
    """One figure against one limit: what, the figure in words and as a number, the limit, n and the n it needs.

    `kept` says whether the limit is kept so far, whatever the n; None where there is nothing to compare.
    """

    what: str
    figure: str
    value: float | None
    limit: str
    n: int
    needs: int
    outcome: Outcome
    kept: bool | None = None


def share_words(hits: int, n: int) -> str:
    """Return a share with its exact 95 % interval (Clopper and Pearson 1934).

    >>> share_words(1, 30)
    '1 of 30 = 3.3 % (0.1 to 17.2 %)'
    >>> share_words(0, 0)
    'no slide'
    """
    if n == 0:
        return "no slide"
    low, high = clopper_pearson(hits, n)
    return f"{hits} of {n} = {100 * hits / n:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def at_most(what: str, hits: int, n: int, limit: float, needs: int, more: str = "", slides: int | None = None) -> Check:
    """Check a share of bad events. `slides` is the number of slides where each gave several of the `n` looks.

    Looks at one slide are no independent events: their share is given without an interval.
    Fewer slides than needed fail only when the events are already more than the limit grants the needed number.
    """
    slides = n if slides is None else slides
    looks = needs * n / slides if slides else needs
    kept = hits <= limit * n + _SLACK
    if slides >= needs:
        outcome: Outcome = "pass" if kept else "fail"
    else:
        outcome = "fail" if hits > limit * looks + _SLACK else "insufficient n"
    value = hits / n if n else None
    return Check(
        what,
        _share_of_looks(hits, n, slides) + more,
        value,
        f"≤ {_percent(limit)}",
        slides,
        needs,
        outcome,
        kept if n else None,
    )


def at_least(
    what: str, hits: int, n: int, limit: float, needs: int, more: str = "", slides: int | None = None
) -> Check:
    """Check a share of good events; the misses are what counts where slides are too few, as in `at_most`."""
    other = at_most(what, n - hits, n, 1 - limit, needs, slides=slides)
    words, value = _share_of_looks(hits, n, other.n) + more, hits / n if n else None
    return Check(what, words, value, f"≥ {_percent(limit)}", other.n, needs, other.outcome, other.kept)


def _share_of_looks(hits: int, n: int, slides: int) -> str:
    """Return a share in words; several looks at a slide are no independent ones, and have no interval."""
    return share_words(hits, n) if slides == n else f"{hits} of {n} looks at {slides} slides = {100 * hits / n:.1f} %"


def number(
    what: str, value: float | None, n: int, limit: float, needs: int, unit: str = "", most: bool = True
) -> Check:
    """Check a figure that is no share, such as a median; with too few slides it neither passes nor fails."""
    sign = "≤" if most else "≥"
    kept = None if value is None else value <= limit + _SLACK if most else value >= limit - _SLACK
    outcome: Outcome = "insufficient n" if kept is None or n < needs else "pass" if kept else "fail"
    figure = "no slide" if value is None else f"{value:.3g}{unit}"
    return Check(what, figure, value, f"{sign} {limit:g}{unit}", n, needs, outcome, kept)


def told(what: str, figure: str, n: int, value: float | None = None) -> Check:
    """Return a figure that is reported and has no limit."""
    return Check(what, figure, value, "reported", n, 0, "reported")


def not_run(what: str, command: str) -> Check:
    """Return what was not done, with the command that does it."""
    return Check(what, command, None, "", 0, 0, "not run")


def combine(checks: Sequence[Check]) -> Outcome:
    """Return the worst outcome; a test of nothing but reported figures was not decided."""
    if not checks:
        return "insufficient n"
    worst = min((c.outcome for c in checks), key=_ORDER.index)
    return "insufficient n" if worst == "reported" else worst


def better(one: Check, other: Check) -> Check:
    """Return the better of two checks of which one is enough; of equals that within its limit, then the first."""
    return max((one, other), key=lambda c: (_ORDER.index(c.outcome), bool(c.kept)))


def pairs(one: Sequence[Seen | None], other: Sequence[Seen | None]) -> list[tuple[Seen, Seen]]:
    """Return the pairs of which both were scored and began with the same seed."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return [(a, b) for a, b in both if a.attempt == b.attempt]


def there(seen: Iterable[Seen | None]) -> list[Seen]:
    """Return what was scored."""
    return [s for s in seen if s is not None]


def flips(
    what: str, clean: Sequence[Seen | None], disturbed: Sequence[Sequence[Seen | None]], limit: float, needs: int
) -> Check:
    """Check how often a verdict differs from that of the clean slide, over one or more disturbances.

    A disturbed slide without a verdict has flipped. Also told: flips of a confident verdict into another confident one,
    and, of several disturbances, the share of slides that flipped in any.
    """
    both = [pair for one in disturbed for pair in pairs(clean, one)]
    bad = [(a, b) for a, b in both if a.label != b.label]
    sure = sum(not a.abstains and not b.abstains for a, b in bad)
    slides = min((len(pairs(clean, one)) for one in disturbed), default=0)
    more = f"; {sure} confident on both sides"
    if len(disturbed) > 1:
        seen = {a.source_sha256 for a, _ in both}
        more = f"; in any of them {share_words(len({a.source_sha256 for a, _ in bad}), len(seen))}{more}"
    return at_most(what, len(bad), len(both), limit, needs, more, slides)


def false_calls(
    what: str,
    seen: Sequence[Seen | None],
    wrong: Callable[[Seen], bool],
    limit: float,
    needs: int,
    review_is_wrong: bool = True,
) -> Check:
    """Check how often something is called that is not there; called but in review is told apart.

    A call in review is a false positive as well, unless the reference lets review stand for the right answer.
    """
    all_ = there(seen)
    called = [s for s in all_ if wrong(s)]
    sure = [s for s in called if not s.abstains]
    more = f"; {len(sure)} confident, {len(called) - len(sure)} in review"
    return at_most(what, len(called if review_is_wrong else sure), len(all_), limit, needs, more)


def area_changes(clean: Sequence[Seen | None], other: Sequence[Seen | None]) -> list[float]:
    """Return the relative change of the lesions' area of every slide that had any, as a share of what it was."""
    return [abs(b.lesion_mm2() / a.lesion_mm2() - 1) for a, b in pairs(clean, other) if a.lesion_mm2() > 0]


def area_cv(variants: Sequence[Sequence[Seen | None]]) -> list[float]:
    """Return, for every slide with lesions in any variant, the coefficient of variation of their area."""
    found = []
    for row in zip(*variants, strict=True):
        areas = np.array([s.lesion_mm2() for s in there(row)])
        if len(areas) == len(row) and areas.max() > 0:
            found.append(float(areas.std() / areas.mean()))
    return found


def balanced_accuracy(seen: Sequence[Seen | None], truth: Sequence[str]) -> float | None:
    """Return the mean over the true labels of the share called so; no verdict is a wrong one."""
    recalls = []
    for label in dict.fromkeys(truth):
        mine = [s for s, t in zip(seen, truth, strict=True) if t == label and s is not None]
        if mine:
            recalls.append(sum(s.label == label for s in mine) / len(mine))
    return float(np.mean(recalls)) if recalls else None


def change_of_p(one: Seen, other: Seen) -> float:
    """Return the largest change of the probability of a label; 1 where one of the two has no verdict."""
    if not one.probability or not other.probability:
        return 0.0 if one.probability == other.probability else 1.0
    return max(abs(one.probability[k] - other.probability.get(k, 0.0)) for k in one.probability)


def percentile(values: Sequence[float], q: float) -> float | None:
    """Return a percentile, None of nothing."""
    return float(np.percentile(values, q)) if values else None


def median_words(values: Sequence[float]) -> str:
    """Return the median in words."""
    return f"{np.median(values):.3g}" if values else "no slide"


def psychometric(diameters: Sequence[float], found: Sequence[bool]) -> tuple[float | None, float | None]:
    """Fit a logistic curve of detection against the logarithm of the diameter; return d50 and d95 in the same unit.

    A weak prior (variance 25 on slope and offset) keeps a clean step finite. What lies below the smallest diameter is
    given as that one, and what is not reached within four times the largest as None. A curve that does not rise is
    flat: both are the smallest diameter if 95 % are found, else None.
    """
    if not found:
        return None, None
    x = np.log(np.asarray(diameters, float))
    middle, y = float(x.mean()), np.asarray(found, float)

    def cost(theta: NDArray[np.float64]) -> float:
        z = theta[0] + theta[1] * (x - middle)
        return float((np.logaddexp(0, z) - y * z).sum() + 0.5 * (theta**2).sum() / 25)

    offset, slope = minimize(cost, np.zeros(2), method="BFGS").x
    least, most = min(diameters), 4 * max(diameters)
    if slope <= 1e-3:
        flat = least if y.mean() >= 0.95 else None
        return flat, flat

    def at(logit: float) -> float | None:
        exponent = middle + (logit - offset) / slope
        return None if exponent > math.log(most) else max(least, math.exp(exponent))

    return at(0.0), at(math.log(19))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
