"""A stress test as the catalogue lists it, and the kit that all tests draw their slides from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from histo.errors import UsageError
from histo.models.bundle import Model
from histo.phantom.recipe import LABELS
from histo.stress.judge import Check
from histo.stress.seen import Seen, Store
from histo.stress.views import Source, View, numbers_of

Group = Literal["invariance", "negatives", "positives", "learning", "other"]
NORMAL, CALCIUM, BONE = LABELS["normal"], LABELS["calcinosis_cutis"], LABELS["heterotopic_ossification"]
# Six slides, two of each label; any number of them in a row is nearly balanced.
ROUND: Final = ("normal", "calcinosis_cutis", "heterotopic_ossification", "confounder", "calcinosis_cutis", "mixed")
FLIPS_NEED: Final = 60  # of the reference: flip rate over at least 60 slides
OTHERS_NEED: Final = 30  # negatives and positives are counted over 30

Views = Mapping[str, Sequence[View]]
Observed = Mapping[str, Sequence[Seen | None]]


@dataclass(frozen=True)
class Kit:
    """What tests are laid out with: the model, slides a test (None: as the reference has it), sizes, and the seed."""

    model: Model
    slides: int | None
    size_px: int
    needle_size_px: int
    seed: int
    device: str
    store: Store
    phantoms: Path
    out: Path
    learning: bool = False

    @property
    def flips_n(self) -> int:
        """How many base slides a disturbance is tried on."""
        return self.slides or FLIPS_NEED

    @property
    def n(self) -> int:
        """How many slides a negative or positive test has."""
        return self.slides or OTHERS_NEED

    @property
    def tile_um(self) -> float:
        """Side of the model's tile."""
        return self.model.card.tile.size_px * self.model.card.tile.mpp

    def class_of(self, label: str) -> str:
        """Return the model's class that leads to a label. Raises `UsageError` where the model has none."""
        for c in self.model.card.classes.lesions:
            if c.verdict == label:
                return c.name
        raise UsageError(
            f"the model {self.model.card.name} gives no verdict {label}, which the phantoms' truth has; "
            "stress tests need a model of calcification and bone"
        )

    def seed_of(self, what: str, k: int) -> int:
        """Return the seed of slide `k` of a series; more slides leave the first ones as they are."""
        return int(hashlib.sha256(f"{self.seed}/{what}/{k}".encode()).hexdigest()[:11], 16)

    def source(self, kind: str, what: str, k: int, **overrides: Any) -> Source:
        """Return slide `k` of a series; double underscores in the names of overrides stand for dots."""
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        return Source(kind, self.seed_of(what, k), self.size_px, True, numbers_of(**named))

    def base(self) -> list[Source]:
        """Return the base slides: the shift domain, all kinds in turn."""
        return [self.base_slide(k) for k in range(self.flips_n)]

    def base_slide(self, k: int) -> Source:
        """Return base slide `k`."""
        return self.source(ROUND[k % len(ROUND)], "base", k)

    def plain(self) -> list[Source]:
        """Return normal skin without look-alikes and artefacts."""
        return [self.source("normal", "plain", k, confounder__count=0, artefacts="none") for k in range(self.n)]


def no_checks(kit: Kit, seen: Observed) -> list[Check]:
    """Return no check, for tests that are run and not looked at."""
    return []


def no_views(kit: Kit) -> Views:
    """Return no view, for tests that need none."""
    return {}


@dataclass(frozen=True)
class Trial:
    """One numbered test: its words, the views it needs by variant, and how they are judged.

    `run` does what cannot be done by looking at views.
    """

    number: int
    name: str
    group: Group
    title: str
    criterion: str
    views: Callable[[Kit], Views] = no_views
    judge: Callable[[Kit, Observed], list[Check]] = no_checks
    run: Callable[[Kit], list[Check]] | None = None
    notes: tuple[str, ...] = field(default=())


def clean(sources: Sequence[Source], keep_map: bool = False) -> list[View]:
    """Return the views of undisturbed slides."""
    return [View(source, keep_map=keep_map) for source in sources]


def seen_through(sources: Sequence[Source], name: str, /, **numbers: Any) -> list[View]:
    """Return the views of slides through one disturbance."""
    return [View(source, name, numbers_of(**numbers)) for source in sources]
