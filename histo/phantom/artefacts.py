"""What goes wrong between section and scan: blur, bubbles, dust, tears, knife marks, bands, stripes, cover slip.

Drawn from a stream of its own, so that a slide with and without its lesion has the same artefacts.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from histo.phantom.layout import Frame
from histo.phantom.noise import F32, ramp
from histo.phantom.recipe import Lot, new_seed, stream

ARTEFACTS: Final = {"bubble": 40, "dust": 41, "tear": 42, "knife_line": 43, "cover_edge": 44}
CHANCES: Final = {
    "defocus": 0.3,
    "bubble": 0.1,
    "dust": 0.25,
    "tear": 0.15,
    "knife_line": 0.15,
    "chatter": 0.12,
    "bands": 0.25,
    "stripes": 0.2,
    "cover_edge": 0.08,
}


@dataclass(frozen=True)
class Mark:
    """One thing with a place: kind, centre (µm), direction, half length, half width or radius (µm), bend, strength."""

    kind: str
    y_um: float
    x_um: float
    turn: float
    long_um: float
    wide_um: float
    bend: float
    strength: float


@dataclass(frozen=True, eq=False)
class Artefacts:
    """All artefacts of a slide: maps on the grid or None, marks, stripes and bands (period, strength, direction)."""

    seed: int
    defocus: F32 | None = None
    tear: F32 | None = None
    marks: list[Mark] = field(default_factory=list)
    chatter: tuple[float, float, float] | None = None
    bands: tuple[float, float, float] | None = None
    stripes: tuple[float, float, float] | None = None

    def names(self) -> list[str]:
        """Return what the slide suffers from."""
        maps = {"defocus": self.defocus, "tear": self.tear, "chatter": self.chatter, "bands": self.bands}
        found = {name for name, value in (maps | {"stripes": self.stripes}).items() if value is not None}
        return sorted(found | {m.kind for m in self.marks})


def plan_artefacts(frame: Frame, seed: int, domain: str, only: Collection[str] | None = None) -> Artefacts:
    """Draw the slide's artefacts; outside the training domain they are more frequent.

    `only` says which are there instead of chance; how each looks is drawn all the same.
    """
    rng = stream(seed, "artefacts")
    lot = Lot(rng, domain)
    worse = {"train": 1.0, "shift": 1.4, "extreme": 2.2}[domain]
    # One number each, drawn first: whether one artefact is there must not change the others.
    here = {name: bool(rng.random() < chance * worse) for name, chance in CHANCES.items()}
    if only is not None:
        here = {name: name in only for name in CHANCES}
    seeds = [new_seed(rng) for _ in range(4)]
    start = lot.between((0.7, 1.6), (0.3, 1.9))
    bands = (lot.between((80, 280), (50, 420)), lot.between((0.04, 0.16), (0.02, 0.28)), float(rng.uniform(0, np.pi)))
    chatter = (lot.between((30, 120), (18, 180)), float(rng.uniform(0.4, 1.0)), float(rng.uniform(0, np.pi)))
    stripes = (
        lot.between((500, 1000), (300, 1500)),
        lot.between((0.01, 0.04), (0.004, 0.08)),
        float(rng.random() < 0.5),
    )
    marks: list[Mark] = []
    for name in ("bubble", "dust", "knife_line", "cover_edge"):
        drawn = _marks(rng, frame, name)
        marks += drawn if here[name] else []
    tear = np.minimum(
        3 + 5 * frame.field(seeds[1], 130, 2) - 0.16 * np.abs(frame.field(seeds[2], 900, 2)) * 900,
        60 * (frame.field(seeds[3], 700) - 0.4),
    )
    return Artefacts(
        seeds[0],
        ramp(frame.field(seeds[0], 700, 2), start, start + 0.5) if here["defocus"] else None,
        tear.astype(np.float32) if here["tear"] else None,
        marks,
        chatter if here["chatter"] else None,
        bands if here["bands"] else None,
        stripes if here["stripes"] else None,
    )


def _marks(rng: np.random.Generator, frame: Frame, kind: str) -> list[Mark]:
    height, width = (side * frame.mpp for side in frame.size_px)
    count = {"bubble": int(rng.integers(1, 4)), "dust": int(rng.integers(2, 15)), "knife_line": int(rng.integers(1, 4))}
    marks = []
    for _ in range(count.get(kind, 1)):
        y, x = float(rng.uniform(0, height)), float(rng.uniform(0, width))
        turn, bend = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-1, 1))
        strength = float(rng.uniform(0.4, 1.2))
        if kind == "bubble":
            wide = float(np.exp(rng.uniform(np.log(60), np.log(450))))
            long = wide * float(rng.uniform(1, 1.4))
        elif kind == "dust":
            thread = rng.random() < 0.15
            wide = float(rng.uniform(1.0, 2.5)) if thread else float(np.exp(rng.uniform(np.log(2), np.log(14))))
            long = float(rng.uniform(60, 350)) if thread else wide * float(rng.uniform(1, 2))
        else:
            wide, long = float(rng.uniform(0.6, 2.5)), float(np.hypot(height, width))
        if kind == "cover_edge":  # near a border, along it
            turn = float(rng.choice([0.0, 0.5, 1.0, 1.5]) * np.pi + rng.normal(0, 0.06))
            near = float(rng.uniform(0.03, 0.15))
            y = height * (0.5 + (0.5 - near) * float(np.cos(turn)))
            x = width * (0.5 - (0.5 - near) * float(np.sin(turn)))
        marks.append(Mark(kind, y, x, turn, long, wide, bend, strength))
    return marks
