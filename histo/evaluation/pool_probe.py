"""A judge that knows the model's features but not where they are: a slide is the mean of its tiles.

If it does as well as the model, the map adds nothing; that it cannot see a small deposit is what it is here to show.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from histo.evaluation.baselines import Softmax
from histo.evaluation.cases import NO_VERDICT
from histo.evaluation.comparators import Judge

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5
Pooled = NDArray[np.float64]


def probe(learnt: Sequence[tuple[str, str, Pooled]], shown: Sequence[Pooled | None]) -> Judge:
    """Return the verdicts of a logistic regression on the mean features (F,) of slides.

    `learnt` holds patient, label and features of every slide to learn from. The ridge is chosen among four by
    cross-validation over patients. A slide without features gets no verdict.
    """
    names = sorted({label for _, label, _ in learnt})
    truth = np.array([names.index(label) for _, label, _ in learnt])
    rows = np.stack([features for _, _, features in learnt])
    patients = sorted({patient for patient, _, _ in learnt})
    fold = np.array([patients.index(patient) % FOLDS for patient, _, _ in learnt])
    strength = min(STRENGTHS, key=lambda s: _loss_held_out(rows, truth, fold, len(names), s))
    judge = Softmax.fit(rows, truth, len(names), strength, squares=False)
    calls = tuple(NO_VERDICT if x is None else names[int(judge.chances(x[None]).argmax())] for x in shown)
    return Judge(
        "mean-pool probe",
        calls,
        f"mean of the model's own features over a slide by logistic regression, learnt from {len(learnt)} slides",
    )


def _loss_held_out(
    rows: NDArray[np.float64], truth: NDArray[np.int64], fold: NDArray[np.int64], classes: int, strength: float
) -> float:
    """Return the mean log loss over slides, each judged without its patient's fold."""
    losses = []
    for number in np.unique(fold):
        held = fold == number
        if held.all():
            continue
        judge = Softmax.fit(rows[~held], truth[~held], classes, strength, squares=False)
        chance = judge.chances(rows[held])[np.arange(int(held.sum())), truth[held]]
        losses += (-np.log(np.maximum(chance, 1e-6))).tolist()
    return float(np.mean(losses)) if losses else 0.0
