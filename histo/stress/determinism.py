"""Test 39: the same slide gives the same report, to the byte, and the same numbers whatever the number of threads."""

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from histo.export.outputs import write_outputs
from histo.infer import predict_slide
from histo.models.engine import Engines, usable_cores
from histo.results import SlidePrediction
from histo.stress.judge import Check, at_least, number
from histo.stress.trial import Kit, Trial
from histo.stress.views import make

SLIDES: Final = 3
SAME: Final = 1e-5


def _determinism(kit: Kit) -> list[Check]:
    """Examine a few base slides on the CPU: twice with all cores, once with one core, once with twice as many."""
    equal, changes = 0, []
    sources = kit.base()[:SLIDES]
    cores = usable_cores()
    engines = [Engines(kit.model, "auto", "cpu", n) for n in (cores, cores, 1, 2 * cores)]
    for source in sources:
        slide = make(source, kit.phantoms).slide
        again = [predict_slide(slide, kit.model, engines=one, slide_id="slide") for one in engines]
        equal += report_hash(again[0]) == report_hash(again[1])
        changes += [_change(again[0], other) for other in again[2:]]
    return [
        at_least("same hash of every file of the report", equal, len(sources), 1.0, SLIDES),
        number("change of p over 1 and twice the cores", max(changes, default=None), len(sources), SAME, SLIDES),
    ]


def report_hash(prediction: SlidePrediction) -> str:
    """Return the SHA-256 over all files that are written for a slide."""
    with tempfile.TemporaryDirectory(prefix="histo-stress-") as folder:
        write_outputs(prediction, folder)
        told = hashlib.sha256()
        for path in sorted(Path(folder).iterdir()):
            told.update(path.name.encode() + path.read_bytes())
    return told.hexdigest()


def _change(one: SlidePrediction, other: SlidePrediction) -> float:
    """Return the largest change of the probability of a label; 1 where one has no verdict."""
    a, b = one.result.verdict, other.result.verdict
    if a is None or b is None:
        return float(a is not b)
    return max(abs(a.probability[label] - b.probability[label]) for label in a.probability)


DETERMINISM: Final = Trial(
    39, "determinism", "other", "same slide again, other numbers of threads", "same hash of the report; p within 1e-5",
    run=_determinism,
)  # fmt: skip
