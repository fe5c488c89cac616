"""What the report of a training says of its own figures."""

from pathlib import Path

from histo.data.records import SlideRecord
from histo.learning.conclusion import _flattered


def test_slides_that_the_start_has_seen_are_told() -> None:
    known = [SlideRecord(name, Path(f"{name}.svs"), "p", "normal") for name in ("s1", "s2", "s3", "s4")]
    (told,) = _flattered(known, True)
    assert "has learnt from 4 of the slides that were held out" in told
    assert "(s1, s2, s3 …)" in told
    assert len(_flattered([], False)) == 1
    assert _flattered([], True) == []
