"""What else could judge these slides, and whether the model is better than that on the same slides."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.evaluation.cases import NO_VERDICT, READER, Cohort, verdicts_in
from histo.evaluation.confusion import confusions, overall, with_slides
from histo.evaluation.discrimination import difference
from histo.evaluation.intervals import mean_of_shares, number
from histo.evaluation.resampling import Bootstrap, percentiles, with_patients
from histo.statistics import association


@dataclass(frozen=True)
class Judge:
    """Somebody's label for every slide of a cohort; `no verdict` where there is none.

    That is wrong, as it is for the model, unless the judge was `free` to leave slides out: a reader who never saw a
    slide is compared on the others.
    """

    name: str
    calls: tuple[str, ...]
    note: str = ""
    free: bool = False


def majority(cohort: Cohort, trained: Sequence[SlideRecord] = ()) -> Judge:
    """Return the judge that calls everything what most training slides are; most slides of the cohort without them."""
    labels = [r.label for r in trained] or [c.record.label for c in cohort.cases]
    most = max(cohort.labels, key=lambda label: labels.count(label))
    where = "the training slides" if trained else "this very cohort, which flatters it"
    return Judge("majority", (most,) * len(cohort.cases), f"{most} on every slide, the most frequent of {where}")


def readers(cohort: Cohort) -> list[Judge]:
    """Return a judge for every column of the manifest whose name begins with `reader` and that holds labels.

    Raises `UsageError` for a column that holds labels and other words too, or labels in another spelling.
    """
    names = list(dict.fromkeys(n for c in cohort.cases for n in c.record.extra if n.startswith(READER)))
    judges = []
    for name in names:
        calls = tuple(c.record.extra.get(name) or NO_VERDICT for c in cohort.cases)
        if {plain_label(call) for call in calls}.isdisjoint(cohort.labels):
            continue  # notes or numbers; `columns_without_labels` names it
        if others := sorted(set(calls) - {*cohort.labels, NO_VERDICT}):
            raise UsageError(
                f"column {name} of {cohort.manifest} holds labels and {others[0]!r} too; use "
                f"{', '.join(cohort.labels)}, or nothing where the reader gave none"
            )
        judged = len(calls) - calls.count(NO_VERDICT)
        note = f"column {name} of the manifest; judged {judged} of {len(calls)} slides, compared on these"
        judges.append(Judge(name, calls, note, free=True))
    return judges


def plain_label(text: str) -> str:
    """Return a diagnosis as labels are written, whatever its capitals and spaces.

    >>> plain_label("Calcinosis  cutis")
    'calcinosis_cutis'
    """
    return "_".join(text.casefold().replace("-", " ").replace("_", " ").split())


def columns_without_labels(cohort: Cohort) -> list[str]:
    """Return the columns whose name begins with `reader` and that hold nobody's diagnoses."""
    compared = {judge.name for judge in readers(cohort)}
    names = dict.fromkeys(n for c in cohort.cases for n in c.record.extra if n.startswith(READER))
    return [name for name in names if name not in compared]


def other_run(cohort: Cohort, out: Path) -> Judge:
    """Return the verdicts of another run of `histo infer` on the same slides; its model may lack some of the labels.

    Raises `UsageError` as `verdicts_in` does.
    """
    model, calls = verdicts_in(out, [c.record for c in cohort.cases])
    return Judge(f"model {model.name}", tuple(calls), model.digest)


def compare(cohort: Cohort, judges: Sequence[Judge], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return balanced accuracy of every judge, its paired difference to the model, and McNemar's exact test.

    Both are counted over the same `slides`. The difference is drawn by patient, both on the same draws; McNemar 1947
    counts slides that only one has right.
    """
    count, found = len(cohort.labels), []
    known = [*cohort.labels, NO_VERDICT]
    for judge in judges:
        every = np.array([known.index(c) if c in known else count for c in judge.calls], np.int64)
        rows = np.flatnonzero(every < count) if judge.free else np.arange(len(every))
        truth, ours, calls = cohort.truth[rows], cohort.called[rows], every[rows]
        weights, ones = bootstrap.weights[:, rows], np.ones((1, len(rows)))
        once = confusions(truth, calls, count, ones)[0]
        own = once.sum(axis=1).astype(int).tolist()
        figure = mean_of_shares(np.diag(once[:, :count]).astype(int).tolist(), own)
        drawn = overall(confusions(truth, calls, count, weights), with_slides(once))["balanced_accuracy"]
        gain = difference(ones, truth, ours, calls, count)[0]
        found.append(
            {
                "name": judge.name,
                "note": judge.note,
                "slides": len(rows),
                "calls": dict(Counter(judge.calls)),
                "balanced_accuracy": with_patients(figure, percentiles(drawn)),
                "gain_of_model": with_patients(
                    {"value": float(gain), "n": len(rows)},
                    percentiles(difference(weights, truth, ours, calls, count)),
                ),
                "mcnemar": mcnemar(ours == truth, calls == truth),
            }
        )
    return found


def mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many slides only one of two judges has right, and the exact two-sided p-value.

    >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
    {'only_model': 6, 'only_other': 0, 'p': 0.03125}
    """
    only_model, only_other = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    total = only_model + only_other
    p = float(binomtest(only_model, total, 0.5).pvalue) if total else 1.0
    return {"only_model": only_model, "only_other": only_other, "p": p}


def agreement_of_readers(judges: Sequence[Judge], labels: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return Cohen's kappa and Cramér's V of every two readers, over the slides that both judged."""
    rows: list[Mapping[str, Any]] = []
    for i, one in enumerate(judges):
        for other in judges[i + 1 :]:
            both = [(a, b) for a, b in zip(one.calls, other.calls, strict=True) if NO_VERDICT not in (a, b)]
            if both:
                table = np.array([[sum(p == (a, b) for p in both) for b in labels] for a in labels], float)
                padded = np.concatenate([table, np.zeros((len(labels), 1))], axis=1)
                tied, _ = association([a for a, _ in both], [b for _, b in both], 1, 0)
                rows.append(
                    {
                        "readers": [one.name, other.name],
                        "n": len(both),
                        "kappa": number(overall(padded, with_slides(padded))["kappa"]),
                        "cramers_v": tied,
                    }
                )
    return rows
