"""What a model said of one view, kept as a small file, and how it is read: called, abstained, confident."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from histo.files import whole, write_text
from histo.results import SlidePrediction, Status

# A small slide is sent to review for its size: that is no answer to what was done to it.
OF_SIZE: Final = frozenset({"little_tissue"})


@dataclass(frozen=True)
class Seen:
    """The result of one view: areas in mm², presence and count per class, and which true lesions were met.

    `attempt` is that of the source's seed: two slides of other attempts are no pair.
    """

    view: str
    source_sha256: str
    attempt: int
    status: Status
    reasons: tuple[str, ...]
    label: str | None
    probability: Mapping[str, float]
    presence: Mapping[str, float]
    area_mm2: Mapping[str, float]
    count: Mapping[str, int]
    tissue_mm2: float
    met: Mapping[str, tuple[bool, ...]]
    true_mm2: Mapping[str, float]

    @property
    def reviewed(self) -> bool:
        """Whether the slide is in review for another reason than its size."""
        return self.status == "review" and not set(self.reasons) <= OF_SIZE

    @property
    def abstains(self) -> bool:
        """Whether there is no verdict that may be used: refused, failed or in review."""
        return self.label is None or self.reviewed

    def lesion_mm2(self) -> float:
        """Area of all lesions together."""
        return sum(self.area_mm2.values())


def of_prediction(
    prediction: SlidePrediction,
    view: str,
    source: tuple[str, int],
    met: Mapping[str, Sequence[bool]],
    true: Mapping[str, float],
) -> Seen:
    """Return what is kept of a prediction; `source` is the SHA-256 of the slide it began with, and its attempt."""
    result = prediction.result
    return Seen(
        view,
        *source,
        result.status,
        tuple(dict.fromkeys(r.code for r in result.reasons)),
        result.verdict.label if result.verdict else None,
        dict(result.verdict.probability) if result.verdict else {},
        {b.class_name: b.presence for b in result.burdens},
        {b.class_name: b.area_mm2 for b in result.burdens},
        {b.class_name: b.count for b in result.burdens},
        result.areas.tissue_mm2 if result.areas else 0.0,
        {name: tuple(found) for name, found in met.items()},
        dict(true),
    )


@dataclass(frozen=True)
class Store:
    """The folder of all that one model, with one setting, said: a JSON a view, and a map where it is wanted."""

    folder: Path

    def read(self, view: str) -> Seen | None:
        """Return what was said of a view; None when it is not there, or no record."""
        try:
            found: dict[str, Any] = json.loads((self.folder / f"{view}.json").read_text(encoding="utf-8"))
            met = {name: tuple(hits) for name, hits in found.pop("met").items()}
            return Seen(**{**found, "reasons": tuple(found["reasons"]), "met": met})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def has(self, view: str, keep_map: bool) -> Seen | None:
        """Return what was said of a view if the map is there too where it is wanted."""
        return None if keep_map and not self._map(view).is_file() else self.read(view)

    def write(self, seen: Seen) -> None:
        """Keep what was said."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / f"{seen.view}.json", json.dumps(asdict(seen), indent=1) + "\n")

    def write_map(self, view: str, probability: NDArray[np.float16], usable: NDArray[np.bool_]) -> None:
        """Keep a slide map (C, H, W) and its scored cells; before the record, which says that it is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(self._map(view)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, probability=probability, usable=usable)

    def read_map(self, view: str) -> tuple[NDArray[np.float16], NDArray[np.bool_]] | None:
        """Return a kept map and its scored cells."""
        try:
            with np.load(self._map(view)) as kept:
                return kept["probability"], kept["usable"]
        except (OSError, ValueError, KeyError):
            return None

    def _map(self, view: str) -> Path:
        return self.folder / f"{view}.npz"
