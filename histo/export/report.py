"""The report of one slide: a single HTML file that needs no network, no script and no other file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histo.export.checks import check_rows
from histo.export.colour import colour_bar
from histo.export.layers import by_rank, canvas_grid, foremost
from histo.export.legend import SCALE_NOTE, swatches
from histo.export.lettering import put_scale_bar
from histo.export.overlay import render_overlay, render_tissue
from histo.export.pages import css_colour, picture_uri, render, verdict_colour
from histo.export.words import marks
from histo.files import write_text
from histo.results import EvidenceField, Lesion, SlidePrediction, SlideResult
from histo.wording import beside, probability_words

MOST_LESIONS = 50
SPECK_MM2 = 0.0005  # below it an area has no digits to show
_REVIEW = "#c98a1b"
_FIELD_PX = 420
# Twice the size on the page, so that marks and scale bars keep a size that reads.
_BESIDE_PX, _STACKED_PX = (960, 1500), (1880, 1200)
_WIDE = 0.6  # flatter pictures stand one above the other, so that both fit on the page


def write_report(prediction: SlidePrediction, path: Path) -> None:
    """Write the report; slides without a verdict get one too, with the reason and what to do."""
    result = prediction.result
    marked, names = foremost(result.lesions), marks(result.lesions)
    ids = {one.lesion_id for one in marked}
    unmarked = [one for one in by_rank(result.lesions) if one.lesion_id not in ids]
    listed = by_rank([*marked, *unmarked[: MOST_LESIONS - len(marked)]])  # whatever the picture marks has its row
    page = render(
        "report.html.j2",
        result=result,
        colour=_REVIEW if result.status == "review" else verdict_colour(result),
        colours={c.name: css_colour(c.colour) for c in result.model.classes},
        figure=_figure(prediction),
        fields=[_field(f, result, names) for f in prediction.evidence],
        checks=check_rows(result),
        lesions=listed,
        more_lesions=len(result.lesions) - len(listed),
        marks={one.lesion_id: names[one.lesion_id] for one in marked},
    )
    write_text(path, page)


def _figure(prediction: SlidePrediction) -> dict[str, object] | None:
    """Return the two pictures and the legend of the overview figure, as data URIs."""
    if prediction.overview is None:
        return None
    grid = prediction.overview.grid
    rows, columns = canvas_grid(grid, _BESIDE_PX).shape
    beside = rows > _WIDE * columns
    room = _BESIDE_PX if beside else _STACKED_PX
    return {
        "beside": beside,
        "width_mm": grid.shape[1] * grid.cell_um[0] / 1000,
        "height_mm": grid.shape[0] * grid.cell_um[1] / 1000,
        "tissue": picture_uri(render_tissue(prediction, room)),
        "overlay": picture_uri(render_overlay(prediction, room)),
        "bars": [
            {"name": c.name, "uri": picture_uri(colour_bar(c.colour, 256, 14), "PNG")}
            for c in prediction.result.model.classes
        ],
        "swatches": [{"label": s.label, "uri": picture_uri(s.picture(44, 18), "PNG")} for s in swatches(prediction)],
        "note": SCALE_NOTE,
    }


def _field(field: EvidenceField, result: SlideResult, names: Mapping[str, str]) -> dict[str, object]:
    """Return one field of evidence: its lesion, if it lies in one, and its two pictures."""
    lesion: Lesion | None = next((one for one in result.lesions if one.lesion_id == field.lesion_id), None)
    return {
        "lesion": lesion,
        "mark": names.get(field.lesion_id, "") if field.lesion_id else "",
        "why_not": _why_not(field, result),
        "class_name": field.class_name,
        "probability": field.probability,
        "near": picture_uri(_with_bar(field.near_rgb, field.near_um)),
        "near_um": field.near_um,
        "far": picture_uri(_with_bar(field.far_rgb, field.far_um)),
        "far_um": field.far_um,
    }


def _why_not(field: EvidenceField, result: SlideResult) -> str:
    """Return why a field is no finding; nothing for one that is."""
    least = next(c.min_area_mm2 for c in result.model.classes if c.name == field.class_name)
    area = f"{beside(field.area_mm2, least, 4)} mm²" if field.area_mm2 and field.area_mm2 >= SPECK_MM2 else "a speck"
    if field.why_not == "small":
        return f"{area}, and the smallest finding is {least:g} mm²"
    if field.why_not == "weak":
        own = field.own_probability
        return f"{area}, but too weak" + ("" if own is None else f" (its probability {probability_words(own)})")
    return ""


def _with_bar(rgb: NDArray[np.uint8], side_um: float) -> NDArray[np.uint8]:
    """Return the picture enlarged to at least the size it is shown at, with a scale bar in µm."""
    picture = Image.fromarray(rgb)
    if picture.width < _FIELD_PX:
        height = max(1, round(picture.height * _FIELD_PX / picture.width))
        picture = picture.resize((_FIELD_PX, height), Image.Resampling.BICUBIC)
    put_scale_bar(picture, picture.width / side_um, "µm", longest_share=0.3, size_px=max(16, picture.width // 22))
    return np.asarray(picture)
