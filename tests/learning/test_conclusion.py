"""What the report of a training says of its own figures."""

from histo.data.identities import LEARNT_FROM, STARTED_FROM, identities
from histo.learning.conclusion import _flattered, _known_to_start


def test_patients_whom_the_start_has_seen_are_told() -> None:
    training = {STARTED_FROM: identities([], ["p01", "p02"]), LEARNT_FROM: identities([], ["p03"])}
    known = _known_to_start(training, ["p03", "P02", "p04", "P02"])
    assert known == ["P02"]
    assert "1 of the patients that were held out" in " ".join(_flattered(known, True))
    assert _known_to_start({}, ["p01"]) == []
