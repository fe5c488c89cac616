"""The fields that a report shows of a slide: the strongest spots, near and far."""

from collections.abc import Sequence

from histo.data.slide import Slide
from histo.errors import SlideFailed
from histo.geometry import plan_read, round_px
from histo.models.lesions import ClassFindings
from histo.models.verdict import NOT_EXCLUDED
from histo.results import EvidenceField

MAX_EVIDENCE = 8
EVIDENCE_PX = 448
NEAR_MPP, FAR_MPP = 0.5, 2.5


def show_evidence(slide: Slide, findings: Sequence[ClassFindings]) -> tuple[EvidenceField, ...]:
    """Show the lesions of every class in turn, by their contribution, so that a rare class is not crowded out.

    A class without a lesion shows its strongest field instead, if that is not next to nothing: the reviewer
    sees what was not counted.
    """
    ranks = range(max(1, *(len(f.lesions) for f in findings)))
    wanted: list[tuple[str | None, str, float, tuple[float, float]]] = []
    for rank in ranks:
        for f in findings:
            if rank < len(f.lesions):
                lesion = f.lesions[rank]
                wanted.append((lesion.lesion_id, f.rule.name, lesion.probability_max, lesion.peak_level0_px))
            elif rank == 0 and f.peak_probability >= NOT_EXCLUDED:
                wanted.append((None, f.rule.name, f.peak_probability, f.peak_level0_px))
    fields = (_field(slide, *one) for one in wanted[:MAX_EVIDENCE])
    return tuple(field for field in fields if field is not None)


def _field(
    slide: Slide, lesion_id: str | None, class_name: str, probability: float, peak_level0_px: tuple[float, float]
) -> EvidenceField | None:
    """Read the field around a strong cell, near and far; None where the file is damaged."""
    coarsest = max(slide.pyramid.mpp_x, slide.pyramid.mpp_y)
    pictures, sides_um = [], []
    for mpp in (max(NEAR_MPP, coarsest), max(FAR_MPP, coarsest)):
        plan = plan_read(slide.pyramid, mpp, EVIDENCE_PX)
        fx, fy = plan.tile_px_level0
        x, y = peak_level0_px
        corner = round_px(x - EVIDENCE_PX * fx / 2), round_px(y - EVIDENCE_PX * fy / 2)
        try:
            pictures.append(slide.read_tile(corner, plan))
        except SlideFailed:
            return None
        sides_um.append(EVIDENCE_PX * fx * slide.pyramid.mpp_x)
    return EvidenceField(lesion_id, class_name, probability, pictures[0], pictures[1], sides_um[0], sides_um[1])
