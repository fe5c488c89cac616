"""The typed form of a cohort's YAML specification; unknown keys are errors with their dotted path."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from histo.config import read_keys
from histo.errors import UsageError
from histo.phantom.kinds import check_domain
from histo.phantom.slide import SMALLEST_PX, parameters
from histo.schema import Strict

SHARES: Final = {
    "normal": 0.25,
    "confounder": 0.2,
    "calcinosis_cutis": 0.25,
    "heterotopic_ossification": 0.2,
    "mixed": 0.1,
}
EXAMPLE: Final = "configs/cohort.yaml"
_MOST_PX: Final = 40000  # the whole slide is held in memory while it is made
_STEP_PX: Final = 128
_RANGE, _PLAIN = "<range>", "<plain>"


def _size(value: Any) -> Any:
    """Read `4000` and `4000x3000` (width x height)."""
    if isinstance(value, tuple):
        return value
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
    if not found:
        raise ValueError(f"{value!r} is no size in pixels; write 4000, or 4000x3000 for width x height")
    return int(found[1]), int(found[2] or found[1])


def _domain(value: str) -> str:
    try:
        return check_domain(value)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _is_range(value: Any) -> str:
    """Tell pydantic which of two forms a value has, so that errors are those of this form."""
    return _RANGE if isinstance(value, dict | Strict) else _PLAIN


Side = Annotated[int, Field(ge=SMALLEST_PX, le=_MOST_PX)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]
Sizes = Annotated[tuple[Size, ...], BeforeValidator(_one_or_many), Field(min_length=1)]
Share = Annotated[float, Field(ge=0)]


class SizeRange(Strict):
    """Square slides with sides drawn uniformly between two lengths, in steps of 128 px."""

    least: Side
    most: Side

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) must not be above most ({self.most})")
        return self


class CountRange(Strict):
    """A number of slides drawn uniformly, both ends included."""

    least: int = Field(ge=1)
    most: int = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) must not be above most ({self.most})")
        return self


Count = Annotated[int, Field(ge=1, le=100)]
Counts = Annotated[Annotated[CountRange, Tag(_RANGE)] | Annotated[Count, Tag(_PLAIN)], Discriminator(_is_range)]


class Group(Strict):
    """Slides that are drawn alike; give either `slides` or `patients`."""

    name: str = Field("all", pattern=r"^[a-z][a-z0-9_-]*$")
    slides: int | None = Field(None, ge=1)
    patients: int | None = Field(None, ge=1)
    slides_per_patient: Counts = CountRange(least=1, most=3)
    kinds: dict[str, Share] = SHARES
    kind_of: Literal["slide", "patient"] = "slide"
    domain: Annotated[str, AfterValidator(_domain)] = "train"
    size_px: Annotated[Annotated[SizeRange, Tag(_RANGE)] | Annotated[Sizes, Tag(_PLAIN)], Discriminator(_is_range)] = (
        (6000, 6000),
    )
    mpp: float = Field(0.5, ge=0.1, le=2)
    split: Literal["train", "validation", "test"] | None = None
    lesions: bool = True
    twins: bool = False
    overrides: dict[str, Any] = Field(default_factory=dict)
    vary: dict[str, list[Any]] = Field(default_factory=dict)

    @field_validator("kinds", mode="before")
    @classmethod
    def _one_kind_is_all(cls, value: Any) -> Any:
        return {value: 1.0} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if (self.slides is None) == (self.patients is None):
            raise ValueError("give either slides or patients, and not both")
        if self.kind_of == "patient" and self.patients is None:
            raise ValueError("kind_of: patient needs patients, not slides")
        if not sum(self.kinds.values()) > 0:
            raise ValueError("the shares in kinds must not all be 0")
        if any(not values for values in self.vary.values()):
            raise ValueError("vary needs at least one value for every name")
        if twice := next(
            (name for name, values in self.vary.items() if any(values.count(v) > 1 for v in values)), None
        ):
            raise ValueError(f"vary gives {twice} one value twice, which would be one slide under two names")
        if self.twins and not self.lesions:
            raise ValueError("twins are the slides without lesions; lesions: false leaves nothing to pair")
        for kind in self.kinds:
            for settings in self.variants():
                try:
                    self.check(kind, settings)
                except UsageError as error:
                    raise ValueError(str(error)) from error
        return self

    def check(self, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of one slide of the group, checked, with a seed and a size that stand for any."""
        return parameters(
            kind=kind,
            seed=0,
            size_px=(SMALLEST_PX, SMALLEST_PX),
            mpp=self.mpp,
            domain=self.domain,
            patient_seed=0,
            lesions=self.lesions,
            overrides=settings,
        )

    def variants(self) -> list[dict[str, Any]]:
        """Return the overrides of every variant in which each slide is made: one where nothing varies."""
        names = list(self.vary)
        return [self.overrides | dict(zip(names, v, strict=True)) for v in itertools.product(*self.vary.values())]

    def draw_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the (width, height) of the next slide; a single size costs no draw."""
        if isinstance(self.size_px, SizeRange):
            steps = (self.size_px.most - self.size_px.least) // _STEP_PX
            side = self.size_px.least + _STEP_PX * int(rng.integers(steps + 1))
            return side, side
        if len(self.size_px) == 1:
            return self.size_px[0]
        return self.size_px[int(rng.integers(len(self.size_px)))]

    def draw_count(self, rng: np.random.Generator) -> int:
        """Return how many slides the next patient has."""
        if isinstance(self.slides_per_patient, int):
            return self.slides_per_patient
        return int(rng.integers(self.slides_per_patient.least, self.slides_per_patient.most + 1))


class CohortSpec(Strict):
    """A whole cohort: its seed and its groups."""

    seed: int = Field(0, ge=0)
    groups: tuple[Group, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [g.name for g in self.groups]
        if not names:
            raise ValueError("a cohort needs at least one group")
        if len(set(names)) < len(names):
            raise ValueError(f"group names must be unique, got {', '.join(names)}")
        return self


def load_spec(path: Path) -> CohortSpec:
    """Read a specification. Raises `UsageError` naming the file and every wrong key by its dotted path."""
    return spec_from(read_keys(path, EXAMPLE), str(path))


def spec_from(tree: Mapping[str, Any], where: str, within: str = "") -> CohortSpec:
    """Check keys and values; `where` begins the error's sentence, and paths are told as seen from `within`."""
    try:
        return CohortSpec.model_validate(tree)
    except ValidationError as error:
        clauses = []
        for problem in error.errors():
            path = ".".join(str(p) for p in problem["loc"] if p not in (_RANGE, _PLAIN))
            path = path.removeprefix(within).removeprefix(".")
            message = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
            clauses.append(f"`{path}` ".removeprefix("`` ") + message.removeprefix("Value error, "))
        raise UsageError(f"{where}: {'; '.join(clauses)}") from error
