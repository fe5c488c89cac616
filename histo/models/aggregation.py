"""From the slide map to lesions, areas and the verdict: the pathologist's rule, on calibrated probability."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from histo.config import RuleConfig
from histo.geometry import MapGrid, Pyramid
from histo.outlines import Outline, area_px2, feret_mm, paint, trace
from histo.results import Areas, ClassBurden, ClassRule, Lesion, ModelInfo, Reason, SlideMap, Verdict

_NAMESPACE = uuid.UUID("6f0e1f0a-3d53-5c06-9d0c-1d6ad7b0a3c5")
NOT_EXCLUDED = 0.05  # a label less probable than this counts as excluded


@dataclass(frozen=True)
class ClassFindings:
    """What the map holds of one class: its lesions, the area of the largest region too small to be one, its peak."""

    rule: ClassRule
    lesions: tuple[Lesion, ...]
    largest_dropped_mm2: float
    presence: float
    peak_level0_px: tuple[float, float]
    peak_probability: float


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
    slide_map: SlideMap, pyramid: Pyramid, rules: Sequence[ClassRule], config: RuleConfig, identity: str
) -> tuple[ClassFindings, ...]:
    """Find the lesions of every class; `identity` (the slide's SHA-256) makes their ids stable.

    Hysteresis on the 3 x 3 smoothed map: regions above `grow` that reach `seed`, at least `min_area_mm2` large.
    """
    usable = slide_map.valid & (slide_map.tissue > slide_map.excluded)
    findings = []
    for probability, rule in zip(slide_map.probability[1:], rules, strict=True):
        smooth = _smooth(probability, usable)
        regions = _regions(smooth, slide_map.grid, pyramid, rule.name, config)
        kept = sorted(
            (r for r in regions if r.area_mm2 >= rule.min_area_mm2), key=lambda r: (-r.area_mm2, r.peak_level0_px)
        )
        dropped = max((r.area_mm2 for r in regions if r.area_mm2 < rule.min_area_mm2), default=0.0)
        named = (_named(lesion, number, identity) for number, lesion in enumerate(kept, start=1))
        presence = _presence(smooth, rule.min_area_mm2 / slide_map.grid.cell_mm2)
        peak = _peak(smooth, slide_map.grid)
        findings.append(ClassFindings(rule, tuple(named), dropped, presence, peak, float(smooth.max())))
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
        )
        for f in findings
    )


def decide(findings: Sequence[ClassFindings], info: ModelInfo) -> Verdict:
    """Return the verdict: the first class, in order of precedence, that has a lesion; the normal label without one.

    The label probabilities follow the same rule from the presence of each class, taken as independent.
    """
    found = [f.rule for f in findings if f.lesions]
    label = found[0].verdict if found else info.normal_label
    probability = dict.fromkeys(info.labels, 0.0)
    nothing_before = 1.0
    for f in findings:
        probability[f.rule.verdict] += nothing_before * f.presence
        nothing_before *= 1 - f.presence
    probability[info.normal_label] += nothing_before
    not_excluded = tuple(name for name, p in probability.items() if p >= NOT_EXCLUDED or name == label)
    return Verdict(label, probability, not_excluded, also=tuple(rule.name for rule in found[1:]))


def review_reasons(
    findings: Sequence[ClassFindings], verdict: Verdict, areas: Areas, config: RuleConfig
) -> tuple[Reason, ...]:
    """Return every reason for which a pathologist must look before this verdict may be used."""
    reasons = []
    sure = verdict.probability[verdict.label]
    if sure < config.certain:
        reasons.append(Reason("uncertain", f"The probability of the verdict is {sure:.2f}, below {config.certain:g}."))
    for f in findings:
        least = f.rule.min_area_mm2
        area = math.fsum(lesion.area_mm2 for lesion in f.lesions)
        if f.lesions and area < config.borderline * least:
            text = f"{area:.4f} mm² of {f.rule.name} is little more than the least that counts ({least:g} mm²)."
            reasons.append(Reason("borderline_area", text))
        elif f.largest_dropped_mm2 >= 0.5 * least:
            text = f"A region of {f.largest_dropped_mm2:.4f} mm² like {f.rule.name} is just too small to count."
            reasons.append(Reason("borderline_area", text))
    if areas.unreadable_mm2 > 0:
        text = f"{areas.unreadable_mm2:.3f} of {areas.tissue_mm2:.3f} mm² of tissue could not be read."
        reasons.append(Reason("unreadable_tissue", text))
    if areas.excluded_mm2 > config.max_excluded_share * areas.tissue_mm2:
        text = f"{areas.excluded_mm2:.3f} of {areas.tissue_mm2:.3f} mm² of tissue lies under ink."
        reasons.append(Reason("ink_over_tissue", text))
    seen = areas.scored_mm2 + areas.screened_mm2
    if seen < config.enough_tissue_mm2:
        text = f"Only {seen:.3f} mm² of tissue was scored; {config.enough_tissue_mm2:g} mm² is the least."
        reasons.append(Reason("little_tissue", text))
    return tuple(reasons)


def _smooth(probability: NDArray[np.float16], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average over the usable cells of each 3 x 3 neighbourhood, so that the tissue's edge is not diluted."""
    inside = np.where(usable, probability, 0).astype(np.float32)
    total = ndimage.uniform_filter(inside, 3, mode="constant")
    share = ndimage.uniform_filter(usable.astype(np.float32), 3, mode="constant")
    return np.where(usable, total / np.maximum(share, 1e-6), 0).astype(np.float32)


def _regions(
    smooth: NDArray[np.float32], grid: MapGrid, pyramid: Pyramid, class_name: str, config: RuleConfig
) -> list[Lesion]:
    eight = np.ones((3, 3), bool)
    labels, _ = ndimage.label(smooth >= config.grow, structure=eight)
    regions = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        # One cell around the region lets its outline run between cells; with eight neighbours joined, nothing
        # above `grow` in that ring belongs to another region.
        top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
        box = np.s_[top : rows.stop + 1, left : columns.stop + 1]
        near = ndimage.binary_dilation(labels[box] == index, eight)
        values = np.where(near, smooth[box], 0)
        if values.max() < config.seed:
            continue
        window = grid.window(top, left, values.shape)
        for outline in trace(values, window, config.grow):
            inside = np.zeros(values.shape, np.uint8)
            paint(inside, [outline], window, 1)
            if inside.any() and values[inside > 0].max() >= config.seed:
                regions.append(_measure(outline, np.where(inside > 0, values, 0), window, pyramid, class_name))
    return regions


def _measure(
    outline: Outline, values: NDArray[np.float32], window: MapGrid, pyramid: Pyramid, class_name: str
) -> Lesion:
    return Lesion(
        lesion_id="",
        name="",
        class_name=class_name,
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


def _named(lesion: Lesion, number: int, identity: str) -> Lesion:
    lesion_id = uuid.uuid5(_NAMESPACE, f"{identity}/{lesion.class_name}/{number}")
    return replace(lesion, lesion_id=str(lesion_id), name=f"{lesion.class_name} {number}")


def _presence(smooth: NDArray[np.float32], cells: float) -> float:
    """Mean probability over the strongest cells that together make up the smallest area that counts."""
    count = max(1, math.ceil(cells))
    strongest = np.sort(np.partition(smooth.ravel(), -min(count, smooth.size))[-count:])
    return float(min(1.0, strongest.sum() / count))
