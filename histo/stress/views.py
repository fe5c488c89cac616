"""What is shown to the model: a phantom, as it is or disturbed, each known by all that decides its pixels."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from histo.errors import UsageError
from histo.phantom.kinds import label_of
from histo.phantom.overrides import check_overrides, put_in
from histo.phantom.recipe import Stain, draw_stain
from histo.phantom.slide import files_of, is_made, make_slide, parameters
from histo.stress.disturb import CLEAN, VERSION

DOMAIN: Final = "shift"
MPP: Final = 0.5
_TRIES: Final = 5  # seeds that are tried where a lesion of a wanted size has no room
_NEXT_SEED: Final = 7_368_787

Numbers = tuple[tuple[str, Any], ...]


def numbers_of(**values: Any) -> Numbers:
    """Return named numbers sorted, as views keep them."""
    return tuple(sorted(values.items()))


@dataclass(frozen=True)
class Source:
    """A phantom of the shift domain: kind, seed, side in px, with or without lesions, and what is set by name."""

    kind: str
    seed: int
    size_px: int
    lesions: bool = True
    overrides: Numbers = ()

    def asked(self, attempt: int = 0) -> dict[str, Any]:
        """Return the checked parameters, with the seed of an attempt. Raises `UsageError` for impossible ones."""
        return parameters(
            kind=self.kind,
            seed=self.seed + attempt * _NEXT_SEED,
            size_px=(self.size_px, self.size_px),
            mpp=MPP,
            domain=DOMAIN,
            patient_seed=None,
            lesions=self.lesions,
            overrides=dict(self.overrides),
        )

    @cached_property
    def key(self) -> str:
        """A short name that no other source has."""
        return _short(json.dumps(self.asked(), sort_keys=True))

    @property
    def label(self) -> str:
        """The true label of the undisturbed slide."""
        return label_of(str(self.asked()["kind"]), self.lesions)

    def stain(self, attempt: int = 0) -> Stain:
        """Return the stain that the slide is made with, without making it."""
        asked = self.asked(attempt)
        drawn = draw_stain(asked["patient_seed"], asked["seed"], DOMAIN)
        return put_in(drawn, check_overrides(dict(self.overrides), DOMAIN), "stain")


@dataclass(frozen=True)
class View:
    """A source seen through a disturbance; `keep_map` keeps the slide map for comparisons cell by cell."""

    source: Source
    name: str = CLEAN
    numbers: Numbers = ()
    keep_map: bool = False

    @cached_property
    def key(self) -> str:
        """A short name that no other view has: all that decides the pixels."""
        return _short(json.dumps([self.source.key, self.name, self.numbers, VERSION], sort_keys=True))


@dataclass(frozen=True)
class Made:
    """A source that was made: its slide, its JSON, and the attempt whose seed had room."""

    slide: Path
    truth: Path
    attempt: int

    def record(self) -> dict[str, Any]:
        """Return what the phantom's JSON says."""
        found: dict[str, Any] = json.loads(self.truth.read_text(encoding="utf-8"))
        return found

    def outlines(self) -> list[tuple[str, tuple[tuple[tuple[float, float], ...], ...]]]:
        """Return class name and outline (level-0 px) of every true lesion."""
        features = json.loads(self.truth.with_suffix(".geojson").read_text(encoding="utf-8"))["features"]
        return [
            (
                f["properties"]["classification"]["name"],
                tuple(tuple((float(x), float(y)) for x, y in ring) for ring in f["geometry"]["coordinates"]),
            )
            for f in features
        ]


def make(source: Source, folder: Path) -> Made:
    """Make a source's slide unless it is there; where nothing of the kind fits, with the next seeds.

    Raises `UsageError` when none of them has room.
    """
    name = source.key
    wanted = [source.asked(k) for k in range(_TRIES)]
    for attempt, asked in enumerate(wanted):
        if is_made(folder, name, asked):
            return _made(folder, name, asked, attempt)
    for attempt, asked in enumerate(wanted):
        given = {k: v for k, v in asked.items() if k != "format"}
        try:
            make_slide(folder, name, **given)
        except UsageError:
            if attempt == _TRIES - 1:
                raise
            continue
        return _made(folder, name, asked, attempt)
    raise AssertionError("the last attempt returns or raises")


def _made(folder: Path, name: str, asked: Mapping[str, Any], attempt: int) -> Made:
    files = files_of(folder, name, asked["kind"])
    return Made(files.slide, files.json, attempt)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
