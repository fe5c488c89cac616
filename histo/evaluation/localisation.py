"""How well the map and the lesions of one slide lie on the truth: one record per slide and class.

Areas and overlap are those of the lesions that `histo infer` reports, on cells of 4 µm; candidates for the FROC are
peaks of the map itself, because it asks what lower thresholds would have found (Bejnordi et al., JAMA 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from histo.data.labels import draw_labels
from histo.evaluation.cases import Case
from histo.evaluation.heatmaps import SCALE, Heatmap
from histo.evaluation.truth import EIGHT, Drawn, ignored, lesions_of
from histo.geometry import MapGrid, rebin, round_px
from histo.outlines import Outline, cells_inside
from histo.results import ClassRule, ModelInfo

PEAK_UM = 75.0  # two peaks nearer than this are one candidate, as in CAMELYON16
_ROUNDING = 1e-6
_LEAST = 0.02  # weaker peaks are noise of no threshold that anyone would set
_MOST_HD_CELLS = 2**23  # a Hausdorff distance over more cells takes too long
LEVELS = SCALE + 1


@dataclass(frozen=True)
class Candidate:
    """A peak of the map: its probability, and the lesion that it hits; None for none, -1 for one too small to count."""

    score: float
    lesion: int | None


@dataclass(frozen=True)
class Found:
    """A true lesion: its area, the diameter of a disc of that area, whether it counts, whether it was reported."""

    area_mm2: float
    diameter_um: float
    counts: bool
    reported: bool


@dataclass(frozen=True, eq=False)
class Located:
    """One class on one slide. `histogram` (2, 256) holds the area (mm²) without and with the class, by the map's value.

    Area of the class that was never scored has the value 0. Without a map (`has_map`) nothing was found, and nothing
    could be called falsely. `area_found` is the share of the class's area that was called; like `dice`, `iou` and
    `hd95_um` it is None where the truth has too little of the class to count (or, the last, where one of the two is
    empty). `pointing` tells whether the strongest cell lies on the class, None without it. Of a slide that is not
    `complete`, of which only what is outlined is known, overlap, pointing and histogram would be right by construction:
    there are none.
    """

    class_name: str
    has_map: bool
    complete: bool
    truth_mm2: float
    called_mm2: float
    area_found: float | None
    dice: float | None
    iou: float | None
    hd95_um: float | None
    pointing: bool | None
    lesions: tuple[Found, ...]
    false_lesions: int
    candidates: tuple[Candidate, ...]
    histogram: NDArray[np.float64]

    @property
    def has_truth(self) -> bool:
        """Whether the slide holds enough of the class, and enough is known of the rest, for an overlap to be asked."""
        return self.dice is not None


def locate(case: Case, model: ModelInfo, drawn: Drawn, heatmap: Heatmap | None) -> list[Located]:
    """Measure every class of one slide; a slide without a map has found nothing."""
    lesions = case.result.lesions if case.result else ()
    reported = {c.name: [one.outline for one in lesions if one.class_name == c.name] for c in model.classes}
    called = draw_labels(reported, model.class_names, drawn.grid, 0)
    return [_locate(reported[c.name], k, c, drawn, called, heatmap) for k, c in enumerate(model.classes, start=1)]


def _locate(
    outlines: Sequence[Outline],
    number: int,
    rule: ClassRule,
    drawn: Drawn,
    called: NDArray[np.uint8],
    heatmap: Heatmap | None,
) -> Located:
    left_out, cell = ignored(drawn), drawn.grid.cell_mm2
    truth, ours = drawn.classes == number, (called == number) & ~left_out
    lesions, labels = lesions_of(drawn, number)
    found = tuple(
        Found(
            one.area_mm2,
            one.diameter_um,
            one.area_mm2 >= rule.min_area_mm2,
            bool(ours[one.window][one.inside].any()),
        )
        for one in lesions
    )
    both, true, theirs = int((truth & ours).sum()), int(truth.sum()), int(ours.sum())
    enough = true * cell >= rule.min_area_mm2
    judged = enough and drawn.complete
    candidates: tuple[Candidate, ...] = ()
    histogram = np.zeros((2, LEVELS))
    if heatmap is not None:
        values, unseen = heatmap.values[number], rebin(left_out, drawn.grid, heatmap.grid) > 0.5
        scored = heatmap.scored & ~unseen
        counts = [f.counts for f in found]
        candidates = tuple(_candidates(values, scored, heatmap.grid, labels, drawn.grid, counts))
        if drawn.complete:
            histogram = _histogram(values, scored, rebin(truth, drawn.grid, heatmap.grid), heatmap.grid)
    if drawn.complete:
        histogram[1, 0] += max(0.0, true * cell - histogram[1].sum())
    near = ndimage.binary_dilation(truth | left_out, EIGHT, iterations=4)  # one cell of the map
    missed = [cells for o in outlines if not near[tuple((cells := cells_inside(o, drawn.grid)).T)].any()]
    strongest = max(candidates, key=lambda c: c.score, default=None)
    return Located(
        class_name=rule.name,
        has_map=heatmap is not None,
        complete=drawn.complete,
        truth_mm2=true * cell,
        called_mm2=theirs * cell,
        area_found=both / true if enough else None,
        dice=2 * both / (true + theirs) if judged else None,
        iou=both / (true + theirs - both) if judged else None,
        hd95_um=_hausdorff(truth, ours, drawn.grid.cell_um) if judged and theirs else None,
        pointing=strongest is not None and strongest.lesion is not None if judged else None,
        lesions=found,
        false_lesions=len(missed),
        candidates=candidates,
        histogram=histogram,
    )


def _histogram(
    values: NDArray[np.uint8], scored: NDArray[np.bool_], share: NDArray[np.float32], grid: MapGrid
) -> NDArray[np.float64]:
    """Return the scored area (2, 256) in mm² without and with the class, by the map's value."""
    parts = (np.clip(part[scored], 0, 1) for part in (1 - share, share))
    counted = [np.bincount(values[scored], part, LEVELS) for part in parts]
    return np.asarray(np.stack(counted) * grid.cell_mm2, np.float64)


def _candidates(
    values: NDArray[np.uint8],
    scored: NDArray[np.bool_],
    grid: MapGrid,
    labels: NDArray[np.int32],
    fine: MapGrid,
    counts: list[bool],
) -> list[Candidate]:
    """Return the peaks of the map, averaged over 3 x 3 scored cells, and the lesion that each lies on or beside."""
    weight = ndimage.uniform_filter(scored.astype(np.float32), 3, mode="constant")
    sums = ndimage.uniform_filter(np.where(scored, values, 0).astype(np.float32), 3, mode="constant")
    smooth = np.where(scored, sums / np.maximum(weight, 1e-6), 0) / SCALE
    radius = max(1, round_px(PEAK_UM / max(grid.cell_um)))
    highest = ndimage.maximum_filter(smooth, 2 * radius + 1, mode="constant")
    plateaus, count = ndimage.label((smooth == highest) & (smooth > _LEAST), structure=EIGHT)
    if not count:
        return []
    # One cell stands for a plateau: the first of it.
    peaks = ndimage.maximum_position(-np.arange(smooth.size).reshape(smooth.shape), plateaus, np.arange(1, count + 1))
    found = []
    for row, column in peaks:
        corners = grid.to_level0_px(np.array([[column - 0.5, row - 0.5], [column + 1.5, row + 1.5]], float))
        near, far = fine.to_map_px(corners)
        # A corner that lies on a cell's border reaches no further, whatever the last bit of its place.
        left, top = np.floor(near + _ROUNDING).astype(int).clip(0)
        right, bottom = np.ceil(far - _ROUNDING).astype(int).clip(0)
        under = labels[top:bottom, left:right]
        hit = np.bincount(under[under > 0]).argmax() - 1 if (under > 0).any() else None
        lesion = None if hit is None else int(hit) if counts[int(hit)] else -1
        found.append(Candidate(float(smooth[row, column]), lesion))
    return found


def _hausdorff(truth: NDArray[np.bool_], ours: NDArray[np.bool_], cell_um: tuple[float, float]) -> float | None:
    """Return the 95th percentile of the distances (µm) between the two borders; None where that would take too long."""
    rows, columns = (np.flatnonzero((truth | ours).any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    a, b = np.pad(truth[box], 1), np.pad(ours[box], 1)
    if a.size > _MOST_HD_CELLS:
        return None
    borders = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    sampling = (cell_um[1], cell_um[0])
    away = [ndimage.distance_transform_edt(~border, sampling=sampling) for border in borders]
    return float(np.percentile(np.concatenate([away[1][borders[0]], away[0][borders[1]]]), 95))
