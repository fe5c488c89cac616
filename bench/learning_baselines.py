"""Slide verdicts from colour or texture alone, learnt from the same slides as the network, for bench/learning_curve.py.

Tiles are measured and judged as in bench/phantom_gate.py. A slide is told by the mean of its three strongest tiles of
each lesion; what that means is learnt from tiles of held-out training slides, so that nobody is handicapped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phantom_gate import Tiles, judges, measure
from sklearn.linear_model import LogisticRegression

from histo.data.records import SlideRecord

STRONGEST, FOLDS = 3, 5
LESIONS = (1, 2)  # calcification and bone, as numbered by the gate


def verdicts(what: str, judge: str, train: Sequence[SlideRecord], test: Sequence[SlideRecord]) -> list[str]:
    """Return a label for every test slide by `what` (colour or texture) and a judge of the gate."""
    pool, shift = train[0].path.parent, test[0].path.parent
    chosen, every, shown = measure(pool), measure(pool, every=True), measure(shift, every=True)
    ours, theirs = _numbers(pool, train), _numbers(shift, test)
    labels = [r.label for r in train]
    held = np.zeros((len(ours), len(LESIONS)))
    for fold in range(FOLDS):
        out = [k for k in range(len(ours)) if k % FOLDS == fold]
        kept = [n for k, n in enumerate(ours) if k % FOLDS != fold]
        fitted = _fit(judges()[judge], what, chosen, kept)
        held[out] = [strongest(fitted, what, every, ours[k]) for k in out]
    slide_judge = LogisticRegression(class_weight="balanced", C=100.0, max_iter=2000).fit(held, labels)
    fitted = _fit(judges()[judge], what, chosen, ours)
    return [str(v) for v in slide_judge.predict([strongest(fitted, what, shown, n) for n in theirs])]


def strongest(judge: Any, what: str, tiles: Tiles, number: int) -> NDArray[np.float64]:
    """Return per lesion (2,) the mean probability of a slide's strongest tiles; 0 for a class never learnt."""
    found = np.zeros(len(LESIONS))
    rows = getattr(tiles, what)[tiles.slide == number]
    if len(rows):
        probability = judge.predict_proba(rows)
        for k, lesion in enumerate(LESIONS):
            column = np.flatnonzero(judge.classes_ == lesion)
            if len(column):
                found[k] = np.sort(probability[:, column[0]])[-STRONGEST:].mean()
    return found


def _numbers(folder: Path, records: Sequence[SlideRecord]) -> list[int]:
    """Return the numbers that the gate gives to slides."""
    order = {path.name: k for k, path in enumerate(sorted(folder.glob("*.svs")))}
    return [order[r.path.name] for r in records]


def _fit(judge: Any, what: str, tiles: Tiles, numbers: Sequence[int]) -> Any:
    rows = np.isin(tiles.slide, numbers)
    return judge.fit(getattr(tiles, what)[rows], tiles.label[rows])
