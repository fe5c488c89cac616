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
from histo.models.slide_scores import ClassCalibration, probability_of
from histo.outlines import Outline, area_px2, feret_mm, paint, trace
from histo.results import Areas, ClassBurden, ClassRule, Lesion, SlideMap, WhyNot

_NAMESPACE = uuid.UUID("6f0e1f0a-3d53-5c06-9d0c-1d6ad7b0a3c5")
_EIGHT = np.ones((3, 3), np.uint8)
SPECK = 0.25  # a region with fewer cells than this share of the smallest area is never traced
SUREST = 1e-3  # no cell of a map can be surer than this: what a training shows of rarer errors is chance
STRONGEST = 0.5  # share of the smallest area that counts, of which the strongest cells are pooled: a rim is unsure
PRESENT = 0.5  # a class as probable as this is on the slide


@dataclass(frozen=True)
class Uncounted:
    """The strongest place of a class that is no lesion; the area is 0 where no region was large enough to outline."""

    area_mm2: float
    probability_max: float
    peak_level0_px: tuple[float, float]
    why: WhyNot


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
    """What regions are looked for: of which class, above which probability, `cells` making up the smallest area."""

    grid: MapGrid
    pyramid: Pyramid
    class_name: str
    grow: float
    cells: int


@dataclass(frozen=True)
class _Region:
    """A region with an outline, and its pooled log-odds."""

    lesion: Lesion
    evidence: float


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
    """Find the lesions of every class; `identity` (the slide's SHA-256) makes their ids stable.

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
        cells = max(1, math.ceil(rule.min_area_mm2 / slide_map.grid.cell_mm2))
        regions, rest = _regions(values, _Sought(slide_map.grid, pyramid, rule.name, config.grow, cells))
        kept: list[_Region] = []
        dropped: list[_Region] = []
        for region in regions:
            counts = region.lesion.area_mm2 >= rule.min_area_mm2 and (
                calibration.probability(region.evidence) >= PRESENT
                if calibration
                else region.lesion.probability_max >= config.seed
            )
            (kept if counts else dropped).append(region)
        evidence = max([rest, *(r.evidence for r in regions)])
        speck = None if kept else _speck(values, slide_map.grid, config.grow)
        findings.append(
            ClassFindings(
                rule=rule,
                lesions=_ranked([r.lesion for r in kept], identity),
                uncounted=_strongest(dropped, rule.min_area_mm2) if dropped else speck,
                evidence=evidence,
                presence=calibration.probability(evidence) if calibration else probability_of(evidence),
            )
        )
    return tuple(findings)


def pooled(values: NDArray[np.floating], cells: int) -> float:
    """Return the mean log-odds of the strongest probabilities, as many as make up half the smallest area that counts.

    `cells` make up all of it. Of fewer values those that are missing count as certainly nothing.
    """
    flat, count = values.ravel(), math.ceil(STRONGEST * cells)
    strongest = np.partition(flat, -count)[-count:] if flat.size > count else np.pad(flat, (0, count - flat.size))
    p = np.clip(strongest.astype(np.float64), SUREST, 1 - SUREST)
    return float((np.log(p) - np.log1p(-p)).mean())


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


def _regions(values: NDArray[np.float32], sought: _Sought) -> tuple[list[_Region], float]:
    """Return the regions above `grow`, and the strongest evidence of a speck or of all cells outside regions."""
    above = (values >= sought.grow).view(np.uint8)
    _, found, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    labels = np.asarray(found, np.int32)
    rest = [pooled(values[labels == 0], sought.cells)]
    regions: list[_Region] = []
    for index, (left, top, wide, high, size) in enumerate(stats[1:].tolist(), start=1):
        box = np.s_[top : top + high, left : left + wide]
        if size < SPECK * sought.cells:
            rest.append(pooled(values[box][labels[box] == index], sought.cells))
        else:
            regions += _outlined(values, labels, index, box, sought)
    return regions, max(rest)


def _outlined(
    values: NDArray[np.float32], labels: NDArray[np.integer], index: int, box: tuple[slice, ...], sought: _Sought
) -> Iterator[_Region]:
    """Yield the outlines of one label: cells that touch by a corner alone may part."""
    rows, columns = box
    # One cell around the region lets its outline run between cells; with eight neighbours joined, nothing above
    # `grow` in that ring belongs to another region.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    around = np.s_[top : rows.stop + 1, left : columns.stop + 1]
    near = np.where(cv2.dilate((labels[around] == index).view(np.uint8), _EIGHT) > 0, values[around], 0)
    window = sought.grid.window(top, left, near.shape)
    for outline in trace(near, window, sought.grow):
        inside = np.zeros(near.shape, np.uint8)
        paint(inside, [outline], window, 1)
        if inside.any() and near[inside > 0].max() > 0:
            lesion = _measure(outline, np.where(inside > 0, near, 0), window, sought)
            yield _Region(lesion, pooled(near[inside > 0], sought.cells))


def _measure(outline: Outline, values: NDArray[np.float32], window: MapGrid, sought: _Sought) -> Lesion:
    pyramid = sought.pyramid
    return Lesion(
        lesion_id="",
        name="",
        class_name=sought.class_name,
        outline=outline,
        area_mm2=area_px2(outline) * pyramid.pixel_mm2,
        feret_mm=feret_mm(outline, pyramid.mpp_x, pyramid.mpp_y),
        probability_mean=float(values[values > 0].mean()),
        probability_max=float(values.max()),
        peak_level0_px=_peak(values, window),
    )


def _strongest(dropped: Sequence[_Region], least_mm2: float) -> Uncounted:
    lesion = max(dropped, key=lambda r: r.evidence).lesion
    why: WhyNot = "small" if lesion.area_mm2 < least_mm2 else "weak"
    return Uncounted(lesion.area_mm2, lesion.probability_max, lesion.peak_level0_px, why)


def _speck(values: NDArray[np.float32], grid: MapGrid, grow: float) -> Uncounted:
    """Return the strongest cell of a map (H, W) without regions."""
    peak = float(values.max())
    return Uncounted(0.0, peak, _peak(values, grid), "small" if peak >= grow else "weak")


def _peak(values: NDArray[np.float32], grid: MapGrid) -> tuple[float, float]:
    """Return the middle of the strongest cell in level-0 px."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
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
