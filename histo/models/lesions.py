"""From the slide map to lesions: regions of each class, what speaks for them, and the areas they add up to."""

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from histo.config import RuleConfig
from histo.geometry import MapGrid, Pyramid
from histo.models.slide_scores import ClassCalibration
from histo.outlines import Outline, area_px2, feret_mm, paint, trace
from histo.results import Areas, ClassBurden, ClassRule, Lesion, SlideMap

_NAMESPACE = uuid.UUID("6f0e1f0a-3d53-5c06-9d0c-1d6ad7b0a3c5")
_EIGHT = np.ones((3, 3), bool)
SPECK = 0.25  # a region with fewer cells than this share of the smallest area is never traced
SUREST = 1e-4  # float16 knows no probability nearer to 0 or 1 that would mean anything
PRESENT = 0.5  # a class as probable as this is on the slide


@dataclass(frozen=True)
class ClassFindings:
    """What the map holds of one class.

    `evidence` is the log-odds of the pooled probability, see `pooled`; `presence` the probability that the class is on
    the slide, calibrated where the model is. `dropped_mm2` is the area of the strongest region that does not count.
    """

    rule: ClassRule
    lesions: tuple[Lesion, ...]
    dropped_mm2: float
    evidence: float
    presence: float
    peak_level0_px: tuple[float, float]
    peak_probability: float


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
    """A region with an outline, and its pooled probability."""

    lesion: Lesion
    pooled: float


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

    Regions are connected cells of the 3 x 3 smoothed map above `grow`. One of at least `min_area_mm2` is a lesion
    where its peak reaches `seed`; or, for a class with a calibration, where its own evidence would make the class more
    likely present than not, so that lesions and calibrated probability cannot part.
    """
    usable = slide_map.valid & (slide_map.tissue > slide_map.excluded)
    calibrations = calibrations or {}
    findings = []
    for probability, rule in zip(slide_map.probability[1:], rules, strict=True):
        smooth = _smooth(probability, usable)
        calibration = calibrations.get(rule.name)
        cells = max(1, math.ceil(rule.min_area_mm2 / slide_map.grid.cell_mm2))
        regions, rest = _regions(smooth, _Sought(slide_map.grid, pyramid, rule.name, config.grow, cells))
        kept: list[_Region] = []
        dropped: list[_Region] = []
        for region in regions:
            counts = region.lesion.area_mm2 >= rule.min_area_mm2 and (
                calibration.probability(log_odds(region.pooled)) >= PRESENT
                if calibration
                else region.lesion.probability_max >= config.seed
            )
            (kept if counts else dropped).append(region)
        most = max([rest, *(r.pooled for r in regions)])
        evidence = log_odds(most)
        strongest = max(dropped, key=lambda r: r.pooled, default=None)
        findings.append(
            ClassFindings(
                rule=rule,
                lesions=_ranked([r.lesion for r in kept], identity),
                dropped_mm2=strongest.lesion.area_mm2 if strongest else 0.0,
                evidence=evidence,
                presence=calibration.probability(evidence) if calibration else most,
                peak_level0_px=_peak(smooth, slide_map.grid),
                peak_probability=float(smooth.max()),
            )
        )
    return tuple(findings)


def log_odds(probability: float) -> float:
    """Return the log-odds of a pooled probability, cut where a map's half precision ends."""
    return float(logit(min(max(probability, SUREST), 1 - SUREST)))


def pooled(values: NDArray[np.floating], cells: int) -> float:
    """Return the sum of the strongest `cells` values over `cells`: the mean over the smallest area that counts.

    What is smaller than that area falls short of it in proportion.
    """
    count = min(cells, values.size)
    strongest = np.sort(np.partition(values.ravel(), -count)[-count:]) if count else values
    return float(min(1.0, strongest.sum(dtype=np.float64) / cells))


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


def _smooth(probability: NDArray[np.float16], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average over the usable cells of each 3 x 3 neighbourhood, so that the tissue's edge is not diluted."""
    inside = np.where(usable, probability, 0).astype(np.float32)
    total = ndimage.uniform_filter(inside, 3, mode="constant")
    share = ndimage.uniform_filter(usable.astype(np.float32), 3, mode="constant")
    return np.where(usable, total / np.maximum(share, 1e-6), 0).astype(np.float32)


def _regions(smooth: NDArray[np.float32], sought: _Sought) -> tuple[list[_Region], float]:
    """Return the regions above `grow`, and the most that specks and all cells outside regions amount to, pooled."""
    labels, count = ndimage.label(smooth >= sought.grow, structure=_EIGHT)
    inside = labels > 0
    sizes = np.bincount(labels[inside], minlength=count + 1)[1:]
    sums = np.bincount(labels[inside], smooth[inside], minlength=count + 1)[1:]
    specks = sizes < SPECK * sought.cells
    rest = max(pooled(smooth[~inside], sought.cells), float(sums[specks].max(initial=0.0)) / sought.cells)
    regions: list[_Region] = []
    for index, (box, is_speck) in enumerate(zip(ndimage.find_objects(labels), specks, strict=True), start=1):
        if not is_speck:
            regions += _outlined(smooth, labels, index, box, sought)
    return regions, rest


def _outlined(
    smooth: NDArray[np.float32], labels: NDArray[np.integer], index: int, box: tuple[slice, ...], sought: _Sought
) -> Iterator[_Region]:
    """Yield the outlines of one label: cells that touch by a corner alone may part."""
    rows, columns = box
    # One cell around the region lets its outline run between cells; with eight neighbours joined, nothing above
    # `grow` in that ring belongs to another region.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    around = np.s_[top : rows.stop + 1, left : columns.stop + 1]
    values = np.where(ndimage.binary_dilation(labels[around] == index, _EIGHT), smooth[around], 0)
    window = sought.grid.window(top, left, values.shape)
    for outline in trace(values, window, sought.grow):
        inside = np.zeros(values.shape, np.uint8)
        paint(inside, [outline], window, 1)
        if inside.any() and values[inside > 0].max() > 0:
            lesion = _measure(outline, np.where(inside > 0, values, 0), window, sought)
            yield _Region(lesion, pooled(values[inside > 0], sought.cells))


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
