"""Which fields are shown of a slide, in which order, and how much of it each of them shows."""

import numpy as np
import pytest

from histo.errors import SlideFailed
from histo.evidence import show_evidence
from histo.geometry import Pyramid
from histo.models.lesions import ClassFindings, Uncounted
from histo.results import ClassRule, Lesion


class Asked:
    """A slide that remembers what was read of it; what lies left of `damaged` cannot be read."""

    def __init__(self, mpp_x=0.25, mpp_y=0.25, damaged=-(10**6)):
        self.pyramid = Pyramid((40000, 30000), (1.0,), mpp_x, mpp_y, "recorded", (0, 0, 40000, 30000))
        self.damaged = damaged
        self.read = []

    def read_tile(self, corner, plan):
        if corner[0] < self.damaged:
            raise SlideFailed("unreadable", "planted")
        self.read.append((corner, plan.size_read_px))
        return np.full((plan.size_tile_px, plan.size_tile_px, 3), len(self.read), np.uint8)


def findings(name, count, uncounted=None, peak=(20000.0, 15000.0)):
    """Return a class with so many lesions, and the probability of what does not count."""
    lesions = tuple(
        Lesion(f"{name}-{n}", f"{name} {n}", name, ([],), 0.5, 0.8, 0.9, 0.95, peak) for n in range(1, count + 1)
    )
    found = None if uncounted is None else Uncounted(0.001, uncounted, peak, "small", 0.3)
    return ClassFindings(ClassRule(name, (1, 2, 3), 0.01, name), lesions, found, 0.0, 0.5)


def shown(*classes, slide=None):
    return [field.lesion_id or (field.class_name, field.why_not) for field in show_evidence(slide or Asked(), classes)]


def test_classes_take_turns():
    assert shown(findings("bone", 3), findings("calcium", 1)) == ["bone-1", "calcium-1", "bone-2", "bone-3"]


def test_however_many_lesions_there_are_what_does_not_count_is_shown_too():
    both = [findings("bone", 12), findings("calcium", 0, uncounted=0.05)]
    assert shown(*both) == [*(f"bone-{n}" for n in range(1, 8)), ("calcium", "small")]


def test_next_to_nothing_is_not_shown():
    both = [findings("bone", 12), findings("calcium", 0, uncounted=0.049)]
    assert shown(*both) == [f"bone-{n}" for n in range(1, 9)]
    assert shown(findings("calcium", 0, uncounted=0.049)) == []


def test_a_field_that_cannot_be_read_is_left_out():
    there = findings("bone", 1, peak=(30000.0, 15000.0))
    assert shown(findings("calcium", 1), there, slide=Asked(damaged=20000)) == ["bone-1"]


def test_a_field_says_of_what_it_shows_what_the_report_does():
    lesion, small = show_evidence(Asked(), [findings("bone", 1, uncounted=0.6)])
    assert (lesion.class_name, lesion.area_mm2, lesion.probability, lesion.own_probability) == ("bone", 0.5, 0.95, None)
    assert (small.class_name, small.area_mm2, small.probability, small.own_probability) == ("bone", 0.001, 0.6, 0.3)
    assert (lesion.near_rgb.max(), lesion.far_rgb.max()) == (1, 2), "in the order in which they are read"


@pytest.mark.parametrize(
    ("mpp_x", "mpp_y", "near_um", "far_um"),
    [
        (0.25, 0.25, 224, 1120),
        (1.0, 1.0, 448, 1120),
        (4.0, 4.0, 1792, 1792),
        (0.25, 0.5, 224, 1120),
        (0.5, 0.25, 224, 1120),
        (0.5, 1.0, 448, 1120),
        (1.0, 0.5, 448, 1120),
    ],
)
def test_fields_are_as_wide_as_they_say_and_no_finer_than_the_scan(mpp_x, mpp_y, near_um, far_um):
    slide = Asked(mpp_x, mpp_y)
    (field,) = show_evidence(slide, [findings("bone", 1)])
    assert (field.near_um, field.far_um) == pytest.approx((near_um, far_um))
    for ((x, y), (width, height)), side_um in zip(slide.read, (near_um, far_um), strict=True):
        assert (width * mpp_x, height * mpp_y) == pytest.approx((side_um, side_um))
        assert (x + width / 2, y + height / 2) == pytest.approx((20000, 15000), abs=1)
