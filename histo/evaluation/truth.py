"""The truth of a slide as far as it is known: which classes it holds, and where, on a fine lattice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from histo.data.agreement import contradiction, says_nothing
from histo.data.annotations import NO_ALIASES, read_annotations
from histo.data.labels import IGNORED, draw_labels
from histo.data.slide import open_slide
from histo.errors import SlideError, UsageError
from histo.evaluation.cases import Case
from histo.geometry import MapGrid, Pyramid, cover
from histo.precedence import known_classes, leading_to
from histo.results import ModelInfo

Unannotated = Literal["normal", "ignore"]
FINE_UM = 4.0  # Dice and areas are those of 4 µm cells
_MOST_CELLS = 2**27  # a coarser lattice beyond, so that memory stays bounded
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The truth on a lattice: class numbers (H, W) in the order of the model's classes, 0 normal, 255 ignored.

    It is not `complete` where only what is outlined is known: then nothing can be called falsely.
    """

    classes: NDArray[np.uint8]
    grid: MapGrid
    complete: bool = True


@dataclass(frozen=True, eq=False)
class TrueLesion:
    """One connected piece of a class: its cells (H, W slices and mask), area and the diameter of an equal disc."""

    window: tuple[slice, slice]
    inside: NDArray[np.bool_]
    area_mm2: float
    diameter_um: float


def fine_grid(pyramid: Pyramid) -> MapGrid:
    """Return the lattice of 4 µm cells over a slide, coarser for slides beyond 2000 mm²."""
    _, _, width, height = pyramid.bounds_level0_px
    cells = width * pyramid.mpp_x * height * pyramid.mpp_y / FINE_UM**2
    side_um = FINE_UM * max(1.0, (cells / _MOST_CELLS) ** 0.5)
    return cover(pyramid, (side_um / pyramid.mpp_x, side_um / pyramid.mpp_y))


def draw_truth(
    case: Case, model: ModelInfo, aliases: Mapping[str, str] = NO_ALIASES, unannotated: Unannotated = "normal"
) -> Drawn | None:
    """Draw the outlines of a slide; a normal slide without outlines is all normal.

    `unannotated` says what tissue is that nobody outlined on a slide with lesions, as in a training.
    Returns None where nobody outlined a slide with lesions (or only what is to be ignored), or the slide's geometry is
    not known.
    Raises `UsageError` for an annotation that cannot be read, and outlines that lead to another label.
    """
    record = case.record
    if record.annotation is None and record.label != model.normal_label:
        return None
    pyramid = _pyramid_of(case)
    if pyramid is None:
        return None
    grid = fine_grid(pyramid)
    outlines = read_annotations(record.annotation, model.class_names, pyramid, aliases) if record.annotation else {}
    complete = unannotated == "normal" or record.label == model.normal_label
    drawn = [name for name, some in outlines.items() if some]
    if says_nothing(drawn) and record.label != model.normal_label:
        return None
    if record.annotation and (problem := contradiction(record, drawn, model, complete)):
        raise UsageError(problem)
    return Drawn(draw_labels(outlines, model.class_names, grid, 0 if complete else IGNORED), grid, complete)


def _pyramid_of(case: Case) -> Pyramid | None:
    """Return a slide's geometry, from the slide where its result has none; None where it cannot be opened."""
    if case.result and case.result.pyramid:
        return case.result.pyramid
    try:
        with open_slide(case.record.path, case.record.mpp) as slide:
            return slide.pyramid
    except SlideError:
        return None


def classes_of(
    case: Case, model: ModelInfo, drawn: Drawn | None, unannotated: Unannotated = "normal"
) -> dict[str, bool | None]:
    """Return whether a slide holds each class, None where that is not known.

    Outlines decide; where they are not all that there is, nobody said what else the slide holds. Without them the label
    does: its own class is there; one that comes after it in the order of precedence may be there too, and nobody said.
    Of several classes with the label one is there at least, and outlines that show none of them don't say which.
    """
    label, names = case.record.label, [c.name for c in model.classes]
    leading = leading_to(label, model.classes)
    held = [names[k] for k in leading]
    first = leading[0] if leading else len(names)
    if drawn is not None:
        shown = {name for k, name in enumerate(names, start=1) if (drawn.classes == k).any()}
        partly = unannotated == "ignore"
        unsure = set(names[first + 1 :] if partly else ()) | set(held if partly or not shown & set(held) else ())
        sure = shown | set(held if len(held) == 1 else ())
        return {name: True if name in sure else None if name in unsure else False for name in names}
    known = known_classes(label, model.classes)
    return {name: known.get(name) for name in names}


def lesions_of(drawn: Drawn, number: int) -> tuple[list[TrueLesion], NDArray[np.int32]]:
    """Return the connected pieces of a class, and their numbers (H, W), 1 for the first, 0 outside."""
    labels, _ = ndimage.label(drawn.classes == number, structure=EIGHT)
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == index
        area_mm2 = float(inside.sum()) * drawn.grid.cell_mm2
        found.append(TrueLesion((rows, columns), inside, area_mm2, float(2e3 * np.sqrt(area_mm2 / np.pi))))
    return found, labels.astype(np.int32)


def ignored(drawn: Drawn) -> NDArray[np.bool_]:
    """Return the cells (H, W) that the reader said must not be judged."""
    return np.asarray(drawn.classes == IGNORED)
