"""The fields that a report shows of a slide: the strongest spots, near and far."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from histo.data.slide import Slide
from histo.errors import SlideFailed
from histo.geometry import plan_read
from histo.models.lesions import ClassFindings
from histo.results import EvidenceField, WhyNot

MAX_EVIDENCE = 8
LEAST_SHOWN = 0.05  # a region less probable than that everywhere is next to nothing
EVIDENCE_PX = 448
NEAR_MPP, FAR_MPP = 0.5, 2.5


class _Wanted(NamedTuple):
    """A place to show: a lesion's, or one that does not count, and why."""

    class_name: str
    probability: float
    peak_level0_px: tuple[float, float]
    area_mm2: float
    lesion_id: str | None = None
    why_not: WhyNot | None = None
    own_probability: float | None = None


def show_evidence(slide: Slide, findings: Sequence[ClassFindings]) -> tuple[EvidenceField, ...]:
    """Show the lesions of every class in turn, by their contribution, so that a rare class is not crowded out.

    After them comes of every class the strongest field that is no lesion, if that is not next to nothing: the reviewer
    sees what was not counted, however many lesions there are.
    """
    uncounted = [
        _Wanted(
            f.rule.name,
            found.probability_max,
            found.peak_level0_px,
            found.area_mm2,
            why_not=found.why,
            own_probability=found.probability,
        )
        for f in findings
        if (found := f.uncounted) and found.probability_max >= LEAST_SHOWN
    ]
    in_turn = [lesion for rank in zip_longest(*(f.lesions for f in findings)) for lesion in rank if lesion]
    lesions = [
        _Wanted(one.class_name, one.probability_max, one.peak_level0_px, one.area_mm2, one.lesion_id)
        for one in in_turn[: max(1, MAX_EVIDENCE - len(uncounted))]
    ]
    fields = (_field(slide, one) for one in [*lesions, *uncounted][:MAX_EVIDENCE])
    return tuple(field for field in fields if field is not None)


def _field(slide: Slide, wanted: _Wanted) -> EvidenceField | None:
    """Read the field around a strong cell, near and far; None where the file is damaged."""
    coarsest = max(slide.pyramid.mpp_x, slide.pyramid.mpp_y)
    pictures, sides_um = [], []
    for mpp in (max(NEAR_MPP, coarsest), max(FAR_MPP, coarsest)):
        plan = plan_read(slide.pyramid, mpp, EVIDENCE_PX)
        try:
            pictures.append(slide.read_tile(plan.centred(wanted.peak_level0_px), plan))
        except SlideFailed:
            return None
        sides_um.append(EVIDENCE_PX * plan.tile_px_level0[0] * slide.pyramid.mpp_x)
    near, far = pictures
    said = wanted.lesion_id, wanted.why_not, wanted.area_mm2, wanted.class_name, wanted.probability
    near_um, far_um = sides_um
    return EvidenceField(*said, near, far, near_um, far_um, wanted.own_probability)
