"""Numbers that are set instead of drawn, by dotted name, so that one thing can be varied alone.

`stain.gain_h`, `tissue.bundle_um`, `calcium.h`, `bone.cement`, `confounder.dark` (every look-alike), `ink.colour`
(one of them), `artefacts`. What is drawn around a set number is drawn as before.
"""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np

from histo.errors import UsageError
from histo.phantom.artefacts import CHANCES
from histo.phantom.bone import FORMS as BONE_FORMS
from histo.phantom.bone import plan_bone
from histo.phantom.calcium import FORMS, plan_calcium
from histo.phantom.calcium import SHIFT_ONLY as SHIFT_FORMS
from histo.phantom.cell_sheets import SHEETS
from histo.phantom.confounders import CONFOUNDERS, plan_confounder
from histo.phantom.fibrous import FIBROUS
from histo.phantom.foreign import INK_OD
from histo.phantom.kinds import check_look_alike
from histo.phantom.layout import frame_for, lay_out
from histo.phantom.recipe import Lot, Stain, Tissue, draw_stain, draw_tissue
from histo.phantom.region import Value

Setting = Value | tuple[float, ...] | tuple[str, ...]
Drawn = TypeVar("Drawn", Stain, Tissue)

INKS: Final = tuple(INK_OD)
COUNTS: Final = {"calcium": 12, "bone": 6, "confounder": 30}
_SIZES: Final = ("radius_um", "diameter_um")
# Settled while the region is planned, with its outline and its cells: too late to set afterwards.
_SETTLED: Final = {
    "bone": (
        "under_decalcified", "marrow_from", "straight", "lamella_um", "osteoclasts", "cells_mm2", "lining",
        "retraction_um",
    ),
    "confounder": ("packing", "pick", "spread", "clumps", "mix", "turn", "spacing_um", "edge_um", "holes_mm2",
        "shape", "cover", "mean_h"),
}  # fmt: skip
# Settled as well, but the region is then planned with them: what a piece of bone can lack.
PLANNED: Final = {"bone": ("woven", "canals_mm2", "lacunae_mm2", "empty")}
_LOOSE: Final = ("mean_h", "edge_um", "packing", "turn")  # settled only where cells are placed by them


def check_overrides(given: Mapping[str, Any], domain: str) -> dict[str, Setting]:
    """Return the settings sorted by name with the type of what they replace.

    Raises UsageError for an unknown name, a value of another type, a number that cannot be set, and for what the
    domain does not show.
    """
    checked: dict[str, Setting] = {}
    for name in sorted(given):
        subject, dot, key = name.partition(".")
        if name == "artefacts":
            checked[name] = _artefacts(given[name])
        elif not dot or subject not in _examples(domain):
            subjects = ", ".join(s for s in _examples(domain) if s not in CONFOUNDERS)
            raise UsageError(
                f"unknown override {name!r}; write artefacts or SUBJECT.NUMBER, the subject one of {subjects}, "
                "or a look-alike's name"
            )
        else:
            checked[name] = _checked(name, subject, key, given[name], domain)
    for subject in ("calcium", "bone"):
        if all(f"{subject}.{size}" in checked for size in _SIZES):
            raise UsageError(f"{subject}.radius_um and {subject}.diameter_um are both set; keep one")
    return checked


def _checked(name: str, subject: str, key: str, value: Any, domain: str) -> Setting:
    if key == "count" and subject in COUNTS:
        # A slide whose lesions are taken away is another label: lesions: false says so.
        return int(_number(name, value, 0 if subject == "confounder" else 1, COUNTS[subject], whole=True))
    if key in _SIZES and subject in ("calcium", "bone"):
        return _number(name, value, 20, 20000)
    if name == "calcium.form":
        form = _one_of(name, value, tuple(FORMS))
        if domain == "train" and form in SHIFT_FORMS:
            raise UsageError(f"{name}: the form {form} is kept from the training domain; use domain shift or extreme")
        return form
    if name == "bone.form":
        return _one_of(name, value, tuple(BONE_FORMS))
    if name == "confounder.name":
        look = _one_of(name, value, tuple(CONFOUNDERS))
        check_look_alike(look, domain)
        return look
    if name == "ink.colour":
        return _one_of(name, value, INKS)
    if name == "bone.lacunae":
        return bool(_like(name, value, True))
    if subject in CONFOUNDERS:
        check_look_alike(subject, domain)
    known = _examples(domain)[subject]
    if key not in known:
        raise UsageError(f"unknown override {name!r}; {subject} has {', '.join(sorted({*known, *_more(subject)}))}")
    if key in settled(subject):
        raise UsageError(f"{name} is settled together with the region's outline and cells and cannot be set alone")
    return _like(name, value, known[key])


def settled(subject: str) -> tuple[str, ...]:
    """Return the drawn numbers of a subject that cannot be set."""
    if subject not in CONFOUNDERS:
        return _SETTLED.get(subject, ())
    placed = subject in SHEETS or subject in FIBROUS
    return tuple(k for k in _SETTLED["confounder"] if placed or k not in _LOOSE)


def _more(subject: str) -> list[str]:
    """Return what can be set beside the drawn numbers."""
    more = {
        "calcium": [*_SIZES, "form"],
        "bone": [*_SIZES, "form", "lacunae"],
        "confounder": ["name"],
        "ink": ["colour"],
    }
    return more.get(subject, []) + (["count"] if subject in COUNTS else [])


@cache
def _examples(domain: str) -> dict[str, dict[str, Any]]:
    """Return one draw of every subject's numbers: their names and types."""
    tissue = draw_tissue(1, 1, domain)
    layout = lay_out(frame_for((1000, 1000), 1.0), tissue, 1)
    lot = Lot(np.random.default_rng(1), domain)
    found: dict[str, dict[str, Any]] = {
        "stain": dataclasses.asdict(draw_stain(1, 1, domain)),
        "tissue": dataclasses.asdict(tissue),
        "calcium": plan_calcium(lot, layout).numbers,
        "bone": plan_bone(lot, layout).numbers,
    }
    looks = {name: plan_confounder(lot, layout, name).numbers for name in CONFOUNDERS}
    shared = set.intersection(*(set(numbers) for numbers in looks.values()))
    return found | {"confounder": {k: looks["ink"][k] for k in looks["ink"] if k in shared}} | looks


def _artefacts(value: Any) -> Setting:
    names = () if value == "none" else tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(_one_of("artefacts", name, tuple(CHANCES)) for name in sorted(set(map(str, names))))


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{name} cannot be {value!r}; choose one of {', '.join(allowed)}")
    return str(value)


def _number(name: str, value: Any, least: float, most: float, whole: bool = False) -> float:
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or not least <= value <= most:
        raise UsageError(f"{name} must be a {'whole ' * whole}number from {least:g} to {most:g}, got {value!r}")
    return float(value)


def _like(name: str, value: Any, example: Any) -> Setting:
    """Return the value with the example's type."""
    if isinstance(example, tuple) and isinstance(value, list | tuple) and len(value) == len(example):
        return tuple(_number(name, v, -1e6, 1e6) for v in value)
    if isinstance(example, bool | str) and isinstance(value, type(example)):
        return value
    if isinstance(example, bool | str | tuple):
        raise UsageError(f"{name} cannot be {value!r}; a value looks like {example!r}")
    number = _number(name, value, -1e6, 1e6, whole=isinstance(example, int))
    return int(number) if isinstance(example, int) else number


def part(overrides: Mapping[str, Setting], subject: str) -> dict[str, Any]:
    """Return one subject's settings without the subject's name."""
    return {k.partition(".")[2]: v for k, v in overrides.items() if k.startswith(f"{subject}.")}


def put_in(drawn: Drawn, overrides: Mapping[str, Setting], subject: str) -> Drawn:
    """Return the drawn stain or tissue with what is set."""
    return dataclasses.replace(drawn, **part(overrides, subject))
