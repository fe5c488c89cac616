"""What a reader meets who looks at a slide's strongest fields first: hits, false ones, how soon the first hit comes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from histo.evaluation.intervals import share
from histo.evaluation.localisation import Candidate, Located

LOOKED_AT = 16


def strongest(slides: Sequence[Located]) -> dict[str, Any]:
    """Return what the sixteen strongest candidates of one class hold, on slides with the class and on those without.

    A candidate on a lesion too small to count is a hit all the same: the reader sees it. `first_hit` is the median
    rank (1 is the strongest) over the slides that have a hit at any rank, `without_hit` counts the others.
    """
    ranked = [sorted(s.candidates, key=lambda c: -c.score) for s in slides]
    true = [r for r, s in zip(ranked, slides, strict=True) if s.has_truth]
    clear = [r for r, s in zip(ranked, slides, strict=True) if s.truth_mm2 == 0 and s.has_map and s.complete]
    first = [rank for r in true if (rank := _first_hit(r)) is not None]
    return {
        "looked_at": LOOKED_AT,
        "hit": share(sum((rank := _first_hit(r)) is not None and rank <= LOOKED_AT for r in true), len(true)),
        "false_with_class": _mean_false(true),
        "false_without_class": _mean_false(clear),
        "first_hit": {"median": float(np.median(first)) if first else None, "n": len(first)},
        "without_hit": len(true) - len(first),
    }


def _first_hit(ranked: Sequence[Candidate]) -> int | None:
    return next((rank for rank, c in enumerate(ranked, start=1) if c.lesion is not None), None)


def _mean_false(slides: Sequence[Sequence[Candidate]]) -> dict[str, Any]:
    counts = [sum(c.lesion is None for c in ranked[:LOOKED_AT]) for ranked in slides]
    return {"value": float(np.mean(counts)) if counts else None, "n": len(counts)}
