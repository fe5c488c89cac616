"""Whether a slide shows what a model never learnt: the distance of its tiles' features from those of reference slides.

Mahalanobis distance in the features of the network (Lee et al., NeurIPS 2018), with the covariance shrunk (Ledoit and
Wolf 2004), its strongest directions kept and the rest taken as equal. A tile is strange when it lies farther out
than 99 % of the tiles of slides that were held out, and a slide is foreign when more of its tiles are strange than on
95 % of the held-out slides, with an allowance for other laboratories.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load, save

from histo.errors import ModelError, UsageError
from histo.files import whole
from histo.results import Reason
from histo.schema import Strict

FILE = "reference.safetensors"
DIRECTIONS = 48
FOLDS = 5
LEAST_PATIENTS = 3
TILE_QUANTILE = 0.99
FALSE_ALARMS = 0.05
OTHER_LABORATORY = 0.25  # share of strange tiles that a slide may show beyond the held-out ones
LEAST_TILES = 3

Arrays = dict[str, NDArray[np.float32]]


class Reference(Strict):
    """What a card says of its reference slides: how many, the limits, what was held out, and the range of stains."""

    sha256: str = ""
    slides: int = Field(ge=1)
    tiles: int = Field(ge=1)
    tile_limit: float = Field(gt=0)
    slide_limit: float = Field(ge=0, le=1)
    held_out_slides: int = Field(ge=1)
    held_out_flagged: int = Field(ge=0)
    held_out_shares: tuple[float, ...]
    stain: dict[str, tuple[float, float]]
    fitted_on: str


@dataclass(frozen=True, eq=False)
class SlideFeatures:
    """Features (N, F) of a slide's tiles, whose patient it is, its stain, and whether the network learnt from it."""

    patient: str
    features: NDArray[np.float32]
    stain: Mapping[str, float]
    learnt: bool = False


@dataclass(frozen=True, eq=False)
class Cloud:
    """The reference tiles: their mean (F,), directions (K, F), variance along these (K,) and along any other (1,)."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    variance: NDArray[np.float32]
    rest: NDArray[np.float32]

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far tiles (N, F) lie out, as the root of the mean square over directions: about 1 inside."""
        away = np.asarray(features, np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        square = (along**2 / self.variance).sum(axis=1)
        square += np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0) / self.rest[0]
        return np.asarray(np.sqrt(square / len(self.mean)))


def cloud_of(features: NDArray[np.floating]) -> Cloud:
    """Return the cloud of reference tiles (N, F), its covariance shrunk towards a sphere."""
    mean = features.mean(axis=0, dtype=np.float64)
    away = features - mean
    count, size = away.shape
    covariance = away.T @ away / count
    sphere = float(np.trace(covariance)) / size + 1e-12
    spread = float(((covariance - sphere * np.eye(size)) ** 2).sum()) + 1e-12
    noise = float(((away**2).sum(axis=1) ** 2).sum() / count - (covariance**2).sum()) / count
    shrink = min(max(noise / spread, 0.0), 1.0)
    values, vectors = np.linalg.eigh((1 - shrink) * covariance + shrink * sphere * np.eye(size))
    kept = min(DIRECTIONS, size)
    others = values[: size - kept]
    rest = float(others.mean()) if len(others) else float(values[0])
    floor = 1e-6 * sphere
    return Cloud(
        mean.astype(np.float32),
        np.ascontiguousarray(vectors[:, size - kept :].T, np.float32),
        np.maximum(values[size - kept :], floor).astype(np.float32),
        np.array([max(rest, floor)], np.float32),
    )


def fit(slides: Sequence[SlideFeatures]) -> tuple[Reference, Arrays]:
    """Return the card's reference and the arrays of its file from the tiles of slides.

    Every slide's tiles are measured against a cloud without its patient. The limits come from slides that the network
    did not learn from, if these are of three patients or more: it knows the others too well.
    Raises `UsageError` for fewer than three patients, which say nothing about a fourth.
    """
    slides = [s for s in slides if len(s.features) >= 1]
    patients = sorted({s.patient for s in slides})
    if len(patients) < LEAST_PATIENTS:
        raise UsageError(
            f"{len(patients)} patients say nothing about others; a reference needs {LEAST_PATIENTS} or more"
        )
    fold = {patient: number % min(FOLDS, len(patients)) for number, patient in enumerate(patients)}
    held: list[NDArray[np.float64]] = [np.empty(0)] * len(slides)
    for number in range(min(FOLDS, len(patients))):
        cloud = cloud_of(np.concatenate([s.features for s in slides if fold[s.patient] != number]))
        for i, slide in enumerate(slides):
            if fold[slide.patient] == number:
                held[i] = cloud.distance(slide.features)
    fresh = [d for d, s in zip(held, slides, strict=True) if not s.learnt]
    is_fresh = len({s.patient for s in slides if not s.learnt}) >= LEAST_PATIENTS
    held = fresh if is_fresh else held
    tile_limit = float(np.quantile(np.concatenate(held), TILE_QUANTILE))
    shares = sorted(float((d > tile_limit).mean()) for d in held)
    # Split conformal: of n held-out slides the k-th smallest bounds a new one with at least this confidence.
    rank = min(len(shares), math.ceil((len(shares) + 1) * (1 - FALSE_ALARMS)))
    slide_limit = min(shares[rank - 1] + OTHER_LABORATORY, 0.95)
    features = np.concatenate([s.features for s in slides])
    cloud = cloud_of(features)
    stains = {k: [s.stain[k] for s in slides if k in s.stain] for k in ("red", "blue", "density")}
    reference = Reference(
        slides=len(slides),
        tiles=len(features),
        tile_limit=tile_limit,
        slide_limit=slide_limit,
        held_out_slides=len(shares),
        held_out_flagged=sum(share > slide_limit for share in shares),
        held_out_shares=tuple(round(share, 4) for share in shares),
        stain={k: (round(min(v), 4), round(max(v), 4)) for k, v in stains.items() if v},
        fitted_on=(
            f"{len(features)} tiles of {len(slides)} slides of {len(patients)} patients; limits from {len(shares)} "
            f"slides, each held out with its patient{'' if is_fresh else ', though the network learnt from some'}."
        ),
    )
    return reference, vars(cloud).copy()


def strange_share(cloud: Cloud, reference: Reference, features: NDArray[np.floating]) -> float | None:
    """Return the share of tiles (N, F) that are strange; None for fewer than three tiles."""
    if len(features) < LEAST_TILES:
        return None
    return float((cloud.distance(features) > reference.tile_limit).mean())


def foreign_reasons(share: float | None, reference: Reference | None) -> tuple[Reason, ...]:
    """Return why foreign tissue forbids a verdict without review."""
    if share is None or reference is None or share <= reference.slide_limit:
        return ()
    text = (
        f"{share:.0%} of the tissue looks like nothing on the {reference.slides} slides that the model knows; "
        f"{reference.slide_limit:.0%} is the most that a slide like them shows."
    )
    return (Reason("foreign_tissue", text),)


def save_reference(path: Path, arrays: Arrays) -> str:
    """Write the arrays of a reference and return the file's SHA-256."""
    content = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    with whole(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_reference(path: Path, sha256: str) -> Cloud:
    """Read a reference.

    Raises `ModelError` when the file is missing, not the one that the card names, or no reference.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); the card of its model names it, copy it too"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path} is not the file that its card names (SHA-256 differs); copy it again")
    try:
        return Cloud(**load(content))
    except Exception as error:  # a reader of files raises what it likes
        raise ModelError(f"{path} is no reference of tiles ({str(error)[:200]}); ask for the model again") from error
