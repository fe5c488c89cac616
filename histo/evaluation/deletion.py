"""What painting over the strongest parts of a heatmap does to the evidence, against as much tissue anywhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.data.records import SlideRecord
from histo.data.tile_sample import spread
from histo.evaluation.cases import Cohort
from histo.evaluation.heatmaps import SCALE, read_heatmap
from histo.evaluation.intervals import share

SHARES = (0.05, 0.2, 0.5)  # of the tissue


@dataclass(frozen=True)
class Deletion:
    """By how much the evidence of a class (log-odds) falls when a share of the tissue is painted over."""

    share: float
    strongest: float
    anywhere: float


def called(cohort: Cohort, most: int) -> Iterator[tuple[SlideRecord, int, NDArray[np.floating]]]:
    """Yield up to `most` slides from all over the cohort that are called a lesion: record, deciding class, heatmap."""
    # Of two classes with the same verdict the first in precedence.
    number = {rule.verdict: k for k, rule in reversed([*enumerate(cohort.model.classes, start=1)])}
    found = [(c, c.folder / c.result.files["heatmap"], c.result.pyramid) for c in cohort.cases
             if c.called in number and c.folder and c.result and c.result.pyramid]  # fmt: skip
    for k in spread(len(found), most).tolist():
        case, path, pyramid = found[k]
        values = read_heatmap(path, pyramid).values[number[case.called]]
        yield case.as_examined, number[case.called], np.asarray(values, np.float32) / SCALE


def faithfulness(found: Mapping[str, Sequence[Sequence[Deletion]]], unread: int, asked: int) -> dict[str, Any]:
    """Return by class and share the mean fall of the evidence, and on how many slides the strongest parts cost more."""
    classes = {}
    for name, slides in found.items():
        classes[name] = [
            {
                "share": at,
                "strongest": float(np.mean([s[k].strongest for s in slides])),
                "anywhere": float(np.mean([s[k].anywhere for s in slides])),
                "strongest_costs_more": share(sum(s[k].strongest > s[k].anywhere for s in slides), len(slides)),
            }
            for k, at in enumerate(SHARES)
        ]
    return {"asked": asked, "slides": sum(map(len, found.values())), "unread": unread, "classes": classes}
