"""Every slide that was judged wrongly, with its overlay and the fields that matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from histo.data.annotations import IGNORE, read_annotations
from histo.data.slide import Slide, open_slide
from histo.errors import SlideError
from histo.evaluation.cases import Case, Cohort
from histo.geometry import plan_read, tile_lattice
from histo.outlines import Outline, area_px2, to_polygon
from histo.wording import probability_words

SHOWN = 60  # slides with pictures; the page would grow beyond what a browser likes
_FIELDS = 3
_FIELD_PX, _FIELD_MPP = 360, 1.0
_OVERLAY_PX = 900
_TRUTH_RGB, _CALLED_RGB = (255, 214, 10), (20, 20, 20)


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture (H, W, 3) and what it shows."""

    rgb: NDArray[np.uint8]
    caption: str


def errors_of(cohort: Cohort) -> list[dict[str, Any]]:
    """Return every slide whose verdict is not its label, confident errors first, with what kind of error it is."""
    rows = []
    for c in cohort.cases:
        if not c.right:
            rows.append(
                {
                    "slide": c.record.slide,
                    "patient": c.record.patient,
                    "label": c.record.label,
                    "called": c.called,
                    "status": c.status,
                    "error": kind_of_error(c, cohort.labels[0]),
                    "probability": c.sure if c.verdict else None,
                    "reasons": [r.code for r in c.result.reasons] if c.result else [],
                    "report": str(report.resolve()) if (report := c.file("report")) else None,
                    "kind": c.record.extra.get("kind"),
                }
            )
    order = {"done": 0, "review": 1}
    return sorted(rows, key=lambda r: (order.get(r["status"], 2), r["error"], -(r["probability"] or 0), r["slide"]))


def kind_of_error(case: Case, normal: str) -> str:
    """Return `false negative`, `false positive`, `wrong lesion` or `no verdict`."""
    if case.verdict is None:
        return "no verdict"
    if case.called == normal:
        return "false negative"
    return "false positive" if case.record.label == normal else "wrong lesion"


def pictures_of(
    case: Case, class_names: Sequence[str], aliases: Mapping[str, str]
) -> tuple[NDArray[np.uint8] | None, list[Shown]]:
    """Return the overlay of a slide and its top fields, as far as the slide can still be read."""
    overlay = None
    if drawn := case.file("overlay"):
        with Image.open(drawn) as picture:
            picture.thumbnail((_OVERLAY_PX, _OVERLAY_PX))
            overlay = np.asarray(picture.convert("RGB"))
    if case.result is None or case.result.pyramid is None:
        return overlay, []
    try:
        with open_slide(case.record.path, case.as_examined.mpp) as slide:
            return overlay, _fields(slide, case, class_names, aliases)
    except SlideError:
        return overlay, []


def _fields(slide: Slide, case: Case, class_names: Sequence[str], aliases: Mapping[str, str]) -> list[Shown]:
    """Show the largest true lesion of each class, then the strongest called ones, each place once."""
    assert case.result is not None
    truth: dict[str, list[Outline]] = {}
    if case.record.annotation:
        truth = dict(read_annotations(case.record.annotation, class_names, slide.pyramid, aliases))
    wanted: list[tuple[tuple[float, float], str]] = []
    for name in (n for n in class_names if truth.get(n)):
        largest = max(truth[name], key=area_px2)
        point = to_polygon(largest).representative_point()
        wanted.append(((point.x, point.y), f"largest true {name.replace('_', ' ')}"))
    for lesion in sorted(case.result.lesions, key=lambda one: -one.probability_max):
        caption = f"called {lesion.name.replace('_', ' ')}, {probability_words(lesion.probability_max)}"
        wanted.append((lesion.peak_level0_px, caption))
    shown: list[Shown] = []
    places: list[tuple[float, float]] = []
    apart = _FIELD_PX * _FIELD_MPP / slide.pyramid.mpp_x / 3
    for at, caption in wanted:
        if len(shown) < _FIELDS and all(np.hypot(at[0] - x, at[1] - y) > apart for x, y in places):
            places.append(at)
            drawn = [o for name, some in truth.items() if name != IGNORE for o in some]
            called = [one.outline for one in case.result.lesions]
            shown.append(Shown(_field(slide, at, drawn, called), caption))
    return shown


def _field(
    slide: Slide, at_level0_px: tuple[float, float], truth: Sequence[Outline], called: Sequence[Outline]
) -> NDArray[np.uint8]:
    """Read the field around a point and draw the outlines on it: true ones yellow, called ones black."""
    plan = plan_read(slide.pyramid, max(_FIELD_MPP, slide.pyramid.mpp_x, slide.pyramid.mpp_y), _FIELD_PX)
    corner = plan.centred(at_level0_px)
    picture = Image.fromarray(slide.read_tile(corner, plan))
    grid = tile_lattice(corner, plan, slide.pyramid)
    pen = ImageDraw.Draw(picture)
    for outlines, colour in ((called, _CALLED_RGB), (truth, _TRUTH_RGB)):
        for ring in (ring for o in outlines for ring in o):
            pen.line([(float(x), float(y)) for x, y in grid.to_map_px(np.asarray(ring))], fill=colour, width=2)
    return np.asarray(picture)
