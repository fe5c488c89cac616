"""From the slide map to lesions: regions of each class, what speaks for them, and the areas they add up to."""

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.config import RuleConfig
from histo.geometry import MapGrid, Pyramid
from histo.models.pooling import pooled, pooled_by_label
from histo.models.slide_scores import ClassCalibration, probability_of
from histo.outlines import Outline, area_px2, feret_mm, paint, trace
from histo.results import Areas, ClassBurden, ClassRule, Lesion, SlideMap, WhyNot

_NAMESPACE = uuid.UUID("6f0e1f0a-3d53-5c06-9d0c-1d6ad7b0a3c5")
_EIGHT = np.ones((3, 3), np.uint8)
SPECK = 0.25  # a region with fewer cells than this share of the smallest area is never traced
_SUMMED = 1e-9  # log-odds by which sums of the same numbers in another order differ at most
PRESENT = 0.5  # a class as probable as this is on the slide


@dataclass(frozen=True)
class Uncounted:
    """The strongest place of a class that is no lesion; the area is 0 where no region was large enough to outline."""

    area_mm2: float
    probability_max: float
    peak_level0_px: tuple[float, float]
    why: WhyNot
    probability: float | None = None  # its own, as a lesion's


@dataclass(frozen=True)
class ClassFindings:
    """What the map holds of one class.

    `evidence` is the pooled log-odds of the strongest place, see `pooled`; `presence` the probability that the class is
    on the slide, calibrated where the model is. `uncounted` is None where every region counts.
    """

    rule: ClassRule
    lesions: tuple[Lesion, ...]
    uncounted: Uncounted | None
    evidence: float
    presence: float


@dataclass(frozen=True)
class _Sought:
    """What is looked for on a map: the regions of one class, and which of them count."""

    grid: MapGrid
    pyramid: Pyramid
    rule: ClassRule
    config: RuleConfig
    calibration: ClassCalibration | None

    @property
    def cells(self) -> int:
        """Cells that make up the smallest area that counts."""
        return max(1, math.ceil(self.rule.min_area_mm2 / self.grid.cell_mm2))

    def probability(self, evidence: float) -> float | None:
        """Return the probability that evidence is of the class; None where that was not calibrated."""
        return self.calibration.probability(evidence) if self.calibration else None

    def counts(self, area_mm2: float, evidence: float, peak: float) -> bool:
        """Tell whether a region counts; more area, evidence or peak never make it count less."""
        own = self.probability(evidence)
        sure = peak >= self.config.seed if own is None else own >= PRESENT
        return area_mm2 >= self.rule.min_area_mm2 and sure


@dataclass(frozen=True)
class _Region:
    """A region with an outline, its pooled log-odds, and whether it counts."""

    lesion: Lesion
    evidence: float
    counts: bool


def account(slide_map: SlideMap) -> Areas:
    """Return the tissue accounting in mm²; every bit of tissue is scored, unreadable, excluded or screened."""
    cell = slide_map.grid.cell_mm2
    usable, passed_over = slide_map.tissue - slide_map.excluded, slide_map.passed_over
    scored = float(usable[slide_map.valid].sum(dtype=np.float64)) * cell
    screened = float(usable[passed_over].sum(dtype=np.float64)) * cell
    unreadable = float(usable[~slide_map.valid & ~passed_over].sum(dtype=np.float64)) * cell
    excluded = float(slide_map.excluded.sum(dtype=np.float64)) * cell
    return Areas(scored + unreadable + excluded + screened, scored, unreadable, excluded, screened)


def find_lesions(
    slide_map: SlideMap,
    pyramid: Pyramid,
    rules: Sequence[ClassRule],
    config: RuleConfig,
    identity: str,
    calibrations: Mapping[str, ClassCalibration] | None = None,
) -> tuple[ClassFindings, ...]:
    """Find the lesions of every class; `identity` (slide, model, settings) makes their ids stable.

    Regions are connected cells above `grow`. One of at least `min_area_mm2` is a lesion where its peak reaches
    `seed`; or, for a class with a calibration, where its own evidence would make the class more likely present than
    not, so that lesions and calibrated probability cannot part.
    """
    usable = slide_map.valid & (slide_map.tissue > slide_map.excluded)
    calibrations = calibrations or {}
    findings = []
    for probability, rule in zip(slide_map.probability[1:], rules, strict=True):
        values = np.where(usable, probability, 0).astype(np.float32)
        calibration = calibrations.get(rule.name)
        regions, evidence, specks = _regions(values, _Sought(slide_map.grid, pyramid, rule, config, calibration))
        dropped = [r for r in regions if not r.counts]
        lesions = _ranked([r.lesion for r in regions if r.counts], identity)
        # Around a lesion there are always cells nearly as sure as it is: without a speck nothing is shown beside one.
        beside = values if not lesions else np.where(specks, values, 0)
        speck = _speck(beside, slide_map.grid, config.grow) if beside.any() or not lesions else None
        findings.append(
            ClassFindings(
                rule=rule,
                lesions=lesions,
                uncounted=_strongest(dropped, rule.min_area_mm2) if dropped else speck,
                evidence=evidence,
                presence=calibration.probability(evidence) if calibration else probability_of(evidence),
            )
        )
    return tuple(findings)


def burdens(findings: Sequence[ClassFindings]) -> tuple[ClassBurden, ...]:
    """Sum up what the map holds of each class."""
    return tuple(
        ClassBurden(
            class_name=f.rule.name,
            area_mm2=math.fsum(lesion.area_mm2 for lesion in f.lesions),
            count=len(f.lesions),
            largest_feret_mm=max((lesion.feret_mm for lesion in f.lesions), default=0.0),
            presence=f.presence,
            evidence=f.evidence,
        )
        for f in findings
    )


def _regions(values: NDArray[np.float32], sought: _Sought) -> tuple[list[_Region], float, NDArray[np.bool_]]:
    """Return the regions above `grow` that matter, the strongest evidence anywhere, and all cells (H, W) of specks.

    All that count matter, and the strongest that does not. Outlines take most of the time, so none is made of what can
    be neither: a label's area, evidence and peak bound those of its outlines, of which it has several where cells
    touch by a corner alone.
    """
    above = (values >= sought.config.grow).view(np.uint8)
    count, marks, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    labels, count = np.asarray(marks, np.int32), count - 1  # label 0 is all that lies below
    evidence, peaks = pooled_by_label(values, labels, count, sought.cells)
    evidence += _SUMMED  # so that it bounds
    largest_mm2 = _most_cells(labels, count) * sought.grid.cell_mm2
    elsewhere = pooled(values[labels == 0], sought.cells)
    regions: list[_Region] = []
    uncounted = -math.inf  # the strongest evidence of a region that does not count
    for number in np.argsort(-evidence, kind="stable").tolist():
        left, top, wide, high, size = stats[number + 1].tolist()
        if size < SPECK * sought.cells:
            elsewhere = max(elsewhere, float(evidence[number]) - _SUMMED)
            continue
        is_rival = evidence[number] > uncounted + 2 * _SUMMED
        if is_rival or sought.counts(largest_mm2[number], evidence[number], peaks[number]):
            box = np.s_[top : top + high, left : left + wide]
            least_mm2 = 0.0 if is_rival else sought.rule.min_area_mm2
            outlined = list(_outlined(values, labels, number + 1, box, least_mm2, sought))
            regions += outlined
            uncounted = max([uncounted, *(r.evidence for r in outlined if not r.counts)])
    is_speck = np.append(False, stats[1:, cv2.CC_STAT_AREA] < SPECK * sought.cells)
    return regions, max([elsewhere, *(r.evidence for r in regions)]), is_speck[labels]


def _most_cells(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return how many cells (N,) the outlines of each of `count` labels go round at most.

    They run through squares between the middles of four cells: one with a single corner in the label is less than half
    inside.
    """
    above = np.pad(labels, 1)
    corners = above[:-1, :-1], above[:-1, 1:], above[1:, :-1], above[1:, 1:]
    owner = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    inside = np.add.reduce([corner > 0 for corner in corners], dtype=np.uint8)
    at = owner > 0
    return np.bincount(owner[at] - 1, np.where(inside[at] == 1, 0.5, 1.0), minlength=count).astype(np.float64)


def _outlined(
    values: NDArray[np.float32],
    labels: NDArray[np.integer],
    index: int,
    box: tuple[slice, ...],
    least_mm2: float,
    sought: _Sought,
) -> Iterator[_Region]:
    """Yield the outlines of one label of at least `least_mm2`: cells that touch by a corner alone may part."""
    rows, columns = box
    # One cell around the region lets its outline run between cells; with eight neighbours joined, nothing above
    # `grow` in that ring belongs to another region.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    around = np.s_[top : rows.stop + 1, left : columns.stop + 1]
    near = np.where(cv2.dilate((labels[around] == index).view(np.uint8), _EIGHT) > 0, values[around], 0)
    window = sought.grid.window(top, left, near.shape)
    for outline in trace(near, window, sought.config.grow):
        area_mm2 = area_px2(outline) * sought.pyramid.pixel_mm2
        if area_mm2 < least_mm2:
            return  # the largest comes first
        inside = np.zeros(near.shape, np.uint8)
        paint(inside, [outline], window, 1)
        if inside.any() and near[inside > 0].max() > 0:
            evidence = pooled(near[inside > 0], sought.cells)
            lesion = _measure(outline, area_mm2, np.where(inside > 0, near, 0), window, sought, evidence)
            yield _Region(lesion, evidence, sought.counts(area_mm2, evidence, lesion.probability_max))


def _measure(
    outline: Outline, area_mm2: float, values: NDArray[np.float32], window: MapGrid, sought: _Sought, evidence: float
) -> Lesion:
    pyramid = sought.pyramid
    return Lesion(
        lesion_id="",
        name="",
        class_name=sought.rule.name,
        outline=outline,
        area_mm2=area_mm2,
        feret_mm=feret_mm(outline, pyramid.mpp_x, pyramid.mpp_y),
        probability_mean=float(values[values > 0].mean()),
        probability_max=float(values.max()),
        peak_level0_px=_peak(values, window),
        probability=sought.probability(evidence),
    )


def _strongest(dropped: Sequence[_Region], least_mm2: float) -> Uncounted:
    lesion = max(dropped, key=lambda r: r.evidence).lesion
    why: WhyNot = "small" if lesion.area_mm2 < least_mm2 else "weak"
    return Uncounted(lesion.area_mm2, lesion.probability_max, lesion.peak_level0_px, why, lesion.probability)


def _speck(values: NDArray[np.float32], grid: MapGrid, grow: float) -> Uncounted:
    """Return the strongest cell of a map (H, W) without regions."""
    peak = float(values.max())
    return Uncounted(0.0, peak, _peak(values, grid), "small" if peak >= grow else "weak")


def _peak(values: NDArray[np.float32], grid: MapGrid) -> tuple[float, float]:
    """Return the middle of the strongest cell of a region (H, W) in level-0 px, the deepest inside of several.

    Sure cells are all 1 in half precision, and the first of them lies at the region's border.
    """
    strongest = np.pad((values == values.max()).view(np.uint8), 1)
    depth = cv2.distanceTransform(strongest, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), values.shape)
    x, y = grid.to_level0_px(np.array([[column + 0.5, row + 0.5]]))[0]
    return float(x), float(y)


def _ranked(lesions: Sequence[Lesion], identity: str) -> tuple[Lesion, ...]:
    """Name the lesions of a class by rank, and give each its share: expected area is mean probability times area."""
    expected = {id(x): x.area_mm2 * x.probability_mean for x in lesions}
    order = sorted(lesions, key=lambda x: (-expected[id(x)], x.peak_level0_px))
    whole = math.fsum(expected.values())
    return tuple(
        replace(
            lesion,
            lesion_id=str(uuid.uuid5(_NAMESPACE, f"{identity}/{lesion.class_name}/{number}")),
            name=f"{lesion.class_name} {number}",
            contribution=expected[id(lesion)] / whole,
        )
        for number, lesion in enumerate(order, start=1)
    )
