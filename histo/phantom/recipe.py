"""What is drawn by lot before anything is rendered: random streams, patient, stain and tissue numbers.

Streams are spawned by name, so that a slide with a lesion and the same slide without it share everything
that does not belong to the lesion.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

KINDS: Final = ("normal", "calcinosis_cutis", "heterotopic_ossification", "mixed", "confounder")
DOMAINS: Final = ("train", "shift")
LABELS: Final = {
    "normal": "normal",
    "confounder": "normal",
    "calcinosis_cutis": "calcinosis_cutis",
    "heterotopic_ossification": "heterotopic_ossification",
    "mixed": "heterotopic_ossification",
}

_STREAMS = ("layout", "stain", "texture", "lesions", "confounders", "artefacts")


def stream(seed: int, name: str, attempt: int = 0) -> np.random.Generator:
    """Return the random stream of one name for one slide; further attempts have streams of their own."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(name), attempt)))


def new_seed(rng: np.random.Generator) -> int:
    """Return a 48-bit seed for hashed noise."""
    return int(rng.integers(1, 2**48))


@dataclass(frozen=True)
class Lot:
    """Draws numbers for one domain: `train` inside a range, `shift` in the shells around it."""

    rng: np.random.Generator
    domain: str

    def between(self, train: tuple[float, float], outer: tuple[float, float], share: float = 0.0) -> float:
        """Draw from `train`, or in the shift domain from what `outer` adds to it on either side."""
        if self.domain == "train":
            return float(self.rng.uniform(*train))
        low, high = train[0] - outer[0], outer[1] - train[1]
        t = float(self.rng.uniform(0, low + high))
        return outer[0] + t if t < low else train[1] + (t - low)

    def log_between(self, train: tuple[float, float], outer: tuple[float, float]) -> float:
        """Do the same uniformly in the logarithm."""
        logs = [(float(np.log(a)), float(np.log(b))) for a, b in (train, outer)]
        return float(np.exp(self.between(logs[0], logs[1])))


@dataclass(frozen=True)
class Stain:
    """How stain becomes pixels: unit OD vectors (RGB), gains, white level, blur (µm), noise, JPEG quality."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    gain_h: float
    gain_e: float
    gamma: float
    white: tuple[float, float, float]
    psf_um: float
    sensor_noise: float
    unsharp: float
    quality: int


@dataclass(frozen=True)
class Tissue:
    """The texture of the connective tissue: widths in µm, cleft share, cell density per mm², roughness."""

    bundle_um: float
    length_ratio: float
    fine_um: float
    waviness: float
    cleft: float
    cleft_um: float
    crossing: float
    eosin: float
    fibroblasts_mm2: float
    rough_um: float
    roughness: tuple[float, float, float]
    thickness: float
    papillary_um: float
    epidermis_um: float
    rete_um: float
    rete_period_um: float


_H = (0.5626, 0.7201, 0.4062)
_E = (0.2159, 0.8012, 0.5581)


def _tilted(rng: np.random.Generator, base: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Return the unit vector `degrees` away from `base` in a random direction that stays positive."""
    vector = np.asarray(base) / np.linalg.norm(base)
    while True:
        side = rng.normal(size=3)
        side -= vector * (side @ vector)
        side /= np.linalg.norm(side)
        turned = np.asarray(vector * np.cos(np.radians(degrees)) + side * np.sin(np.radians(degrees)))
        if turned.min() > 0.02:
            return turned


def draw_stain(patient_seed: int, seed: int, domain: str) -> Stain:
    """Draw the stain and scanner: mostly the patient's, with a little of the slide's own."""
    patient = Lot(stream(patient_seed, "stain"), domain)
    rng = stream(seed, "stain")

    def vector(base: tuple[float, float, float]) -> tuple[float, float, float]:
        v = _tilted(patient.rng, base, patient.between((0, 5.0), (0, 9.0)))
        return (round(float(v[0]), 5), round(float(v[1]), 5), round(float(v[2]), 5))

    haematoxylin, eosin = vector(_H), vector(_E)
    gains = [patient.log_between((0.55, 1.8), (0.4, 2.6)) for _ in range(2)]
    low, high = ((0.55, 1.8), (0.4, 2.6))[domain == "shift"]
    gains = [float(np.clip(g * np.exp(rng.normal(0, 0.04)), low, high)) for g in gains]
    if domain == "shift":  # the slide's own jitter must not carry a value into the training range
        gains = [g if not 0.55 < g < 1.8 else (0.55 if g < 1 else 1.8) for g in gains]
    level = patient.rng.uniform(228, 250)
    white = [float(np.clip(level + patient.rng.normal(0, 3), 215, 254)) for _ in range(3)]
    return Stain(
        haematoxylin,
        eosin,
        gains[0],
        gains[1],
        patient.between((0.85, 1.15), (0.75, 1.3)),
        (white[0], white[1], white[2]),
        patient.between((0.12, 0.5), (0.12, 1.1)),
        patient.between((0.3, 2.0), (0.1, 3.5)),
        float(patient.rng.uniform(0, 0.8)) if patient.rng.random() < 0.5 else 0.0,
        int(rng.integers(60, 96)) if domain == "train" else int(rng.choice([*range(40, 60), 96, 97])),
    )


def draw_tissue(patient_seed: int, seed: int) -> Tissue:
    """Draw the patient's fibre style and thickness; roughness also varies from slide to slide."""
    rng, own = stream(patient_seed, "texture"), stream(seed, "texture")
    rough = rng.uniform(0.02, 0.27, 3) * own.uniform(0.7, 1.3, 3)
    return Tissue(
        bundle_um=float(np.exp(rng.uniform(np.log(9), np.log(34)))),
        length_ratio=float(rng.uniform(2.0, 6.0)),
        fine_um=float(rng.uniform(1.8, 3.6)),
        waviness=float(rng.uniform(0.3, 1.3)),
        cleft=float(rng.uniform(-0.1, 0.75)),
        cleft_um=float(np.exp(rng.uniform(np.log(5), np.log(18)))),
        crossing=float(rng.uniform(0.2, 1.4)),
        eosin=float(rng.uniform(0.25, 0.9)),
        fibroblasts_mm2=float(np.exp(rng.uniform(np.log(200), np.log(1800)))),
        rough_um=float(own.choice([0.5, 1.0, 2.0])),
        roughness=(float(rough[0]), float(rough[1]), float(rough[2])),
        thickness=float(rng.uniform(0.8, 1.2)),
        papillary_um=float(rng.uniform(60, 220)),
        epidermis_um=float(np.exp(rng.uniform(np.log(35), np.log(140)))),
        rete_um=float(rng.uniform(5, 110)),
        rete_period_um=float(rng.uniform(60, 170)),
    )
