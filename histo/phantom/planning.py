"""Which regions a slide gets: look-alikes, then lesions, each drawn from its stream and changed as asked.

A region with an override is drawn twice, first as it would be without: so all that is drawn after it stays as it is.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from histo.errors import UsageError
from histo.phantom.bone import plan_bone
from histo.phantom.calcium import plan_calcium
from histo.phantom.confounders import CONFOUNDERS, plan_confounder
from histo.phantom.kinds import look_alike
from histo.phantom.layout import Layout
from histo.phantom.nuclei import join
from histo.phantom.overrides import INKS, PLANNED, Setting, part
from histo.phantom.reaction import plan_reaction
from histo.phantom.recipe import Lot, stream
from histo.phantom.region import Region, Spot, Value
from histo.phantom.truth import widest_um

_Planner = Callable[[Lot, Layout, Spot | None], Region]
_CLOSE, _FAR = 0.04, 0.15  # a wanted diameter is met within the one where it can be, and always within the other
_PLANNERS: Final[dict[str, _Planner]] = {"calcium": plan_calcium, "bone": plan_bone}


class NoRoom(Exception):
    """A lesion of the wanted size does not fit where it was drawn; another attempt may."""


class Numbers(dict[str, Value]):
    """Drawn numbers that remember which of them were used."""

    def __init__(self, drawn: Mapping[str, Value]) -> None:
        super().__init__(drawn)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        self.used.add(name)
        return super().__getitem__(name)


class _Replay(np.random.Generator):
    """Draws again what another generator drew, except that a choice among forms falls on the wanted one.

    A lesion with a given place skips the one draw that finds a place; `skipped` makes it here.
    """

    def __init__(self, before: np.random.Generator, form: str | None, skipped: bool) -> None:
        super().__init__(copy.deepcopy(before.bit_generator))
        self._form, self._skipped = form, skipped

    def choice(self, a: Any, *args: Any, **options: Any) -> Any:
        drawn = super().choice(a, *args, **options)
        return self._form if self._form and isinstance(a, list) and self._form in a else drawn

    def integers(self, *args: Any, **options: Any) -> Any:
        if self._skipped:
            self._skipped = False
            super().integers(1 << 16)
        return super().integers(*args, **options)


def plan_regions(asked: Mapping[str, Any], layout: Layout, attempt: int) -> list[Region]:
    """Draw confounders, then lesions, in the order in which they are painted.

    Raises NoRoom where a lesion of the wanted size does not fit.
    """
    kind, domain, overrides = asked["kind"], asked["domain"], asked["overrides"]
    regions = _confounders(asked, layout, attempt)
    if not asked["lesions"]:
        return regions
    lot = Lot(stream(asked["seed"], "lesions", attempt), domain)
    if kind == "calcinosis_cutis":
        count = int(lot.rng.choice([1, 2, 3, 5], p=[0.4, 0.3, 0.2, 0.1]))
        count = int(overrides.get("calcium.count", count))
        regions += [_lesion("calcium", lot, layout, overrides) for _ in range(count)]
    if kind == "heterotopic_ossification":
        count = int(lot.rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        count = int(overrides.get("bone.count", count))
        regions += [_lesion("bone", lot, layout, overrides) for _ in range(count)]
    if kind == "mixed":
        regions += _mixed(lot, layout, overrides)
    return regions


def _confounders(asked: Mapping[str, Any], layout: Layout, attempt: int) -> list[Region]:
    """Draw the slide's look-alikes; a slide of one look-alike has no other."""
    overrides, name = asked["overrides"], look_alike(asked["kind"])
    # Only a slide that must hold one look-alike is drawn again when it does not.
    lot = Lot(stream(asked["seed"], "confounders", attempt if name else 0), asked["domain"])
    few = int(lot.rng.choice([0, 1, 2, 3], p=[0.3, 0.35, 0.2, 0.15]))
    many = name in CONFOUNDERS or asked["kind"] == "confounder"
    count = few + (int(lot.rng.integers(3, 6)) if many else 0)
    if name and not many:
        return []
    count = int(overrides.get("confounder.count", count))
    wanted = name or overrides.get("confounder.name")
    return [_confounder(lot, layout, wanted, overrides) for _ in range(count)]


def _confounder(lot: Lot, layout: Layout, name: str | None, overrides: Mapping[str, Setting]) -> Region:
    before = copy.deepcopy(lot.rng)
    region = plan_confounder(lot, layout)
    if name and name != region.name:
        region = plan_confounder(Lot(before, lot.domain), layout, name)
    set_ = part(overrides, "confounder") | part(overrides, region.name)
    if "colour" in set_:
        set_["hue"] = INKS.index(set_.pop("colour"))
    return _with(region, {k: v for k, v in set_.items() if k in region.numbers})


def _lesion(
    subject: str, lot: Lot, layout: Layout, overrides: Mapping[str, Setting], spot: Spot | None = None
) -> Region:
    """Draw one lesion as asked, and leave `lot` where it is without the wishes."""
    planner, set_ = _PLANNERS[subject], part(overrides, subject)
    before = copy.deepcopy(lot.rng)
    region = planner(lot, layout, spot)
    form, radius, diameter = (set_.pop(k, None) for k in ("form", "radius_um", "diameter_um"))
    lacunae = set_.pop("lacunae", True)
    planned = {k: set_.pop(k) for k in PLANNED.get(subject, ()) if k in set_}
    set_.pop("count", None)

    def again(radius_um: float | None) -> Region:
        rng = _Replay(before, form, skipped=spot is None and radius_um is not None)
        place = spot if radius_um is None else Spot(*_heart_um(region, layout), radius_um)
        own = partial(plan_bone, given=planned) if planned else planner
        return own(Lot(rng, lot.domain), layout, place)

    if diameter:
        region = _sized(again, float(diameter), layout.frame.cell_um)
    elif radius or form or planned:
        region = again(float(radius) if radius else None)
    if form and region.numbers["form"] != form:
        raise UsageError(f"{subject} of form {form} cannot be drawn in domain {lot.domain}")
    if diameter and "ragged_um" in region.numbers:  # a wilder border would be a good part of a needle
        set_ = {"ragged_um": min(region.number("ragged_um"), 0.03 * float(diameter))} | set_
    region = _with(region, set_)
    if not lacunae:
        region.stamps.update(lacunae=join([]), osteocytes=join([]))
    if {"giants", "band", "band_um"} & set(set_):  # their cells are placed by these numbers
        plan_reaction(region, layout.frame, Lot(np.random.default_rng(region.seed), lot.domain))
    return region


def _with(region: Region, numbers: Mapping[str, Value]) -> Region:
    return dataclasses.replace(region, numbers=Numbers({**region.numbers, **numbers}))


def _heart_um(region: Region, layout: Layout) -> tuple[float, float]:
    """Return the deepest point (x, y) of a region in µm."""
    j, i = np.unravel_index(int(np.argmax(region.sdf_um)), region.sdf_um.shape)
    cell = layout.frame.cell_um
    return (region.cells.x + float(i)) * cell, (region.cells.y + float(j)) * cell


def _sized(draw: Callable[[float], Region], diameter_um: float, cell_um: float) -> Region:
    """Draw the region whose outline is as wide as asked.

    Outlines grow with the radius, though not in step: where a part joins, the width jumps, and the nearest is taken.
    """
    radius, below, above = diameter_um / 2.6, 0.0, np.inf
    found: list[tuple[float, Region]] = []
    for _ in range(10):
        region = draw(radius)
        wide = widest_um(region.maps.get("outer", region.sdf_um) > 0, cell_um)
        found.append((abs(wide / diameter_um - 1), region))
        if found[-1][0] <= max(_CLOSE, 0.5 * cell_um / diameter_um):
            break
        below, above = (radius, above) if wide < diameter_um else (below, radius)
        radius *= float(np.clip(diameter_um / max(wide, cell_um), 0.5, 2))
        if not below < radius < above:
            radius = float(np.sqrt(below * above))
    off, region = min(found, key=lambda pair: pair[0])
    if off > _FAR:
        raise NoRoom(f"a lesion {diameter_um:g} µm wide")
    return region


def _mixed(lot: Lot, layout: Layout, overrides: Mapping[str, Setting]) -> list[Region]:
    """Bone and calcium: apart, touching, or the one around the other."""
    bone = _lesion("bone", lot, layout, overrides)
    x, y = _heart_um(bone, layout)
    way = int(lot.rng.integers(3))
    radius = bone.number("radius_um")
    if way == 0:
        return [bone, _lesion("calcium", lot, layout, overrides)]
    aim = float(lot.rng.uniform(0, 2 * np.pi))
    if way == 1:
        spot = Spot(x + 0.9 * radius * np.cos(aim), y + 0.9 * radius * np.sin(aim), max(80.0, 0.5 * radius))
        return [bone, _lesion("calcium", lot, layout, overrides, spot)]
    return [_lesion("calcium", lot, layout, overrides, Spot(x, y, 1.15 * radius)), bone]
