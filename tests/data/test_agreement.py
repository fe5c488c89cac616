from pathlib import Path

import pytest

from histo.config import ClassConfig, ClassesConfig
from histo.data.agreement import contradiction
from histo.data.annotations import IGNORE
from histo.data.records import SlideRecord

HO, CC = "heterotopic_ossification", "calcinosis_cutis"
CLASSES = ClassesConfig(
    lesions=(
        ClassConfig(name="bone", colour=(0, 0, 0), min_area_mm2=0.02, verdict=HO),
        ClassConfig(name="calcification", colour=(1, 1, 1), min_area_mm2=0.005, verdict=CC),
    )
)


@pytest.mark.parametrize(
    ("label", "outlined", "in_full", "in_part"),
    [
        (HO, {"bone"}, False, False),
        (HO, {"bone", "calcification"}, False, False),
        (HO, {"calcification"}, True, False),  # its bone may be there and not outlined
        (HO, set(), True, False),
        (CC, {"calcification"}, False, False),
        (CC, {"bone"}, True, True),  # bone anywhere means ossification
        (CC, set(), True, False),
        ("normal", set(), False, False),
        ("normal", {"calcification"}, True, True),
        (HO, {IGNORE}, False, False),  # of what is not to be ignored that says nothing
        (HO, {"calcification", IGNORE}, True, False),
        (CC, {"bone", IGNORE}, True, True),
        ("benign", {"bone"}, False, False),  # the manifest's check tells of an unknown label
    ],
)
def test_outlines_contradict_a_label_that_they_do_not_lead_to(
    label: str, outlined: set[str], in_full: bool, in_part: bool
) -> None:
    record = SlideRecord("s1", Path("s1.svs"), "p1", label, Path("s1.geojson"))
    assert (contradiction(record, outlined, CLASSES) is not None) is in_full
    assert (contradiction(record, outlined, CLASSES, complete=False) is not None) is in_part
