"""Whether a slide shows what a model never learnt: how far what it is made of lies from that of reference slides.

A slide is the mean of its tiles' texture (`histo.models.taps`), by tissue. Its Mahalanobis distance (Lee et al.,
NeurIPS 2018) is taken with the covariance shrunk (Ledoit and Wolf 2004), its strongest directions kept and the rest
taken as equal. A slide is foreign when it lies farther out than 95 % of the reference slides that the network did not
learn from, each held out with its patient; a slide of which a few tiles are looked at is compared with so few of
each. A crowd of lymphocytes is nothing strange on a tile; a slide of them is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from safetensors.numpy import load, save

from histo.errors import ModelError, UsageError
from histo.files import whole
from histo.results import ENOUGH_REFERENCES, Reason
from histo.schema import Strict
from histo.weighting import inverse_counts
from histo.wording import beside

FOREIGN = "foreign_tissue"  # the code of the reason
FILE = "reference.safetensors"
DIRECTIONS = 48
FOLDS = 5
LEAST_PATIENTS = 3
LEAST_TILES = 3
VERSION: Final[Literal[2]] = 2  # of what a slide is and how it is compared; references of another version say nothing
FALSE_ALARMS = 0.05

Arrays = dict[str, NDArray[np.float32]]


class Reference(Strict):
    """What a card says of its reference slides: how many, the limits, what was held out, and the range of stains.

    `glance_limit` is for slides of which a few tiles are looked at: the mean of these scatters more. References of an
    older histo don't tell `held_out_patients`: every slide counted as a patient there.
    """

    version: Literal[2]
    sha256: str = ""
    slides: int = Field(ge=1)
    limit: float = Field(gt=0)
    glance_limit: float | None = Field(None, gt=0)
    held_out_slides: int = Field(ge=1)
    held_out_patients: int | None = Field(None, ge=1)
    held_out_distances: tuple[float, ...]
    stain: dict[str, tuple[float, float]]
    fitted_on: str

    @model_validator(mode="before")
    @classmethod
    def _is_of_this_version(cls, given: Any) -> Any:
        version = given.get("version", 1) if isinstance(given, dict) else VERSION
        if version != VERSION:
            raise ValueError(
                f"is of version {version} and this histo compares by version {VERSION}; train the model again, or use "
                "the histo that made it"
            )
        return given

    @property
    def limit_patients(self) -> int:
        """How many patients set the limit: of these a reference promises something, not of their slides."""
        return self.held_out_patients or self.held_out_slides

    def limit_of(self, at_a_glance: bool) -> float:
        """Return the limit of a whole slide, or of one that was seen at a glance."""
        return self.glance_limit if at_a_glance and self.glance_limit is not None else self.limit


@dataclass(frozen=True, eq=False)
class SlideTexture:
    """Texture (T,) of a slide, whose patient it is, its stain, and whether the network learnt from it.

    `glance` (T,) is its texture by the few tiles that screen mode would look at, None where too few can be read.
    """

    patient: str
    texture: NDArray[np.float64]
    stain: Mapping[str, float]
    learnt: bool = False
    glance: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Cloud:
    """The reference slides: their mean (T,), directions (K, T), variance along these (K,) and along any other (1,)."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    variance: NDArray[np.float32]
    rest: NDArray[np.float32]

    def distance(self, textures: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far slides (N, T) lie out, as the root of the mean square over directions: about 1 inside."""
        away = np.asarray(textures, np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        square = (along**2 / self.variance).sum(axis=1)
        square += np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0) / self.rest[0]
        return np.asarray(np.sqrt(square / len(self.mean)))


def cloud_of(textures: NDArray[np.floating]) -> Cloud:
    """Return the cloud of reference slides (N, T), its covariance shrunk towards a sphere."""
    mean = textures.mean(axis=0, dtype=np.float64)
    away = textures - mean
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


@dataclass(eq=False)
class Gathered:
    """The texture of a slide, gathered tile by tile: bare glass is part of a small slide's tiles, so tissue weighs."""

    _sum: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    _tissue: float = 0.0
    _tiles: int = 0

    def take(self, textures: NDArray[np.floating], tissue: NDArray[np.floating]) -> None:
        """Take the texture (N, T) of tiles with their share of tissue (N,); 0 leaves a tile out."""
        self._sum = self._sum + tissue.astype(np.float64) @ textures
        self._tissue += float(tissue.sum(dtype=np.float64))
        self._tiles += int(np.count_nonzero(tissue))

    @property
    def texture(self) -> NDArray[np.float64] | None:
        """The slide's texture (T,); None for fewer than `LEAST_TILES` tiles with tissue."""
        return self._sum / self._tissue if self._tiles >= LEAST_TILES else None


def fit(slides: Sequence[SlideTexture]) -> tuple[Reference, Arrays]:
    """Return the card's reference and the arrays of its file from the texture of slides.

    Every slide, and every glance at one, is measured against a cloud of whole slides without its patient. The limits
    come from slides that the network did not learn from, if these are of three patients or more: it knows the others
    too well.
    Raises `UsageError` for fewer than three patients, which say nothing about a fourth.
    """
    patients = sorted({s.patient for s in slides})
    if len(patients) < LEAST_PATIENTS:
        raise UsageError(
            f"{len(patients)} patients say nothing about others; a reference needs {LEAST_PATIENTS} or more"
        )
    textures = np.stack([s.texture for s in slides])
    fold_of = {patient: k % min(FOLDS, len(patients)) for k, patient in enumerate(patients)}
    folds = np.array([fold_of[s.patient] for s in slides])
    glances = np.stack([np.full_like(s.texture, np.nan) if s.glance is None else s.glance for s in slides])
    held, held_glances = np.empty(len(slides)), np.empty(len(slides))
    for fold in np.unique(folds):
        others, own = cloud_of(textures[folds != fold]), folds == fold
        held[own] = others.distance(textures[own])
        held_glances[own] = others.distance(glances[own])
    fresh = np.array([not s.learnt for s in slides])
    is_fresh = len({s.patient for s in slides if not s.learnt}) >= LEAST_PATIENTS
    counted = fresh if is_fresh else np.ones(len(slides), bool)
    whose = np.array([s.patient for s in slides])
    distances = np.sort(held[counted])
    limit_patients = len(set(whose[counted].tolist()))
    glanced = counted & np.isfinite(held_glances)
    enough = len(set(whose[glanced].tolist())) >= LEAST_PATIENTS
    stains = {k: [s.stain[k] for s in slides if k in s.stain] for k in ("red", "blue", "density")}
    of_learnt = "" if is_fresh else ", though the network learnt from some"
    too_few = (
        ""
        if limit_patients >= ENOUGH_REFERENCES
        else f" Fewer than {ENOUGH_REFERENCES} patients: hardly any slide will be foreign."
    )
    reference = Reference(
        version=VERSION,
        slides=len(slides),
        limit=_limit(held[counted], whose[counted].tolist()),
        glance_limit=_limit(held_glances[glanced], whose[glanced].tolist()) if enough else None,
        held_out_slides=len(distances),
        held_out_patients=limit_patients,
        held_out_distances=tuple(distances.round(4).tolist()),
        stain={k: (round(min(v), 4), round(max(v), 4)) for k, v in stains.items() if v},
        fitted_on=(
            f"{len(slides)} slides of {len(patients)} patients; limit from {len(distances)} slides of "
            f"{limit_patients}, each held out with its patient{of_learnt}.{too_few}"
        ),
    )
    return reference, vars(cloud_of(textures)).copy()


def _limit(distances: NDArray[np.float64], patients: Sequence[str]) -> float:
    """Return the distance within which 95 % of a new patient's slides are to lie, by the conformal rank of patients.

    Each patient weighs 1 / (patients + 1), shared by his slides, and the new one the same beyond all distances (Lee,
    Barber and Willett, Distribution-free inference with hierarchical data, 2023). Of fewer than 19 patients it is the
    farthest slide, which promises less.
    """
    order = np.argsort(distances, kind="stable")
    weight = inverse_counts(patients)[order] / (len(set(patients)) + 1)
    rank = int(np.searchsorted(weight.cumsum(), 1 - FALSE_ALARMS - 1e-9))
    return max(round(float(distances[order[min(rank, len(order) - 1)]]), 4), 1e-4)


def distance_of(cloud: Cloud, gathered: Gathered) -> float | None:
    """Return how far a slide lies out, None where too few tiles tell."""
    texture = gathered.texture
    # Rounded, so that what is written is what is compared.
    return None if texture is None else round(float(cloud.distance(texture[None])[0]), 4)


def foreign_reasons(distance: float | None, reference: Reference, at_a_glance: bool = False) -> tuple[Reason, ...]:
    """Return why foreign tissue forbids a verdict without review."""
    limit = reference.limit_of(at_a_glance)
    if distance is None or distance <= limit:
        return ()
    kept = min(1 - FALSE_ALARMS, reference.limit_patients / (reference.limit_patients + 1))
    text = (
        f"Tissue, stain or scan differs from the model's {reference.slides} reference slides: the distance from their "
        f"mean is {beside(distance / limit, 1, 2)} times the limit; {100 * kept:.3g} % of similar slides stay "
        "within it. Probabilities and sets of diagnoses do not hold for such a slide."
    )
    return (Reason(FOREIGN, text),)


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
        raise ModelError(f"{path} is no reference ({str(error)[:200]}); ask for the model again") from error
