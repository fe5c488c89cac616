"""What is drawn by lot before anything is rendered: random streams, patient, stain and tissue numbers.

Streams are spawned by name, so that a slide with a lesion and the same slide without it share everything
that does not belong to the lesion.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

KINDS: Final = ("normal", "calcinosis_cutis", "heterotopic_ossification", "mixed", "confounder")
DOMAINS: Final = ("train", "shift", "extreme")
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
    """Draws numbers for one domain: `train` inside a range, `shift` in the shells around it, `extreme` beyond."""

    rng: np.random.Generator
    domain: str

    def between(self, train: tuple[float, float], outer: tuple[float, float]) -> float:
        """Draw from `train`, from what `outer` adds to it on either side, or from a little beyond `outer`."""
        if self.domain == "train":
            return float(self.rng.uniform(*train))
        low, high = train[0] - outer[0], outer[1] - train[1]
        t = float(self.rng.uniform(0, low + high))
        if self.domain == "shift":
            return outer[0] + t if t < low else train[1] + (t - low)
        if t >= low:
            return outer[1] + 0.6 * (t - low)
        beyond = outer[0] - 0.6 * t
        return max(beyond, 0.4 * outer[0]) if outer[0] > 0 else beyond

    def among(self, train: tuple[float, float], shift: tuple[float, float], extreme: tuple[float, float]) -> float:
        """Draw from the domain's own range."""
        own = {"train": train, "shift": shift, "extreme": extreme}[self.domain]
        return float(self.rng.uniform(*own))

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
    ground_h: float
    fibroblasts_mm2: float
    rough_um: float
    roughness: tuple[float, float, float]
    thickness: float
    papillary_um: float
    epidermis_um: float
    rete_um: float
    rete_period_um: float
    fibril: float
    seam: float
    cut_across: float


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


_GAINS = ((0.55, 1.8), (0.4, 2.6))


def _jittered(gain: float, rng: np.random.Generator, domain: str) -> float:
    """Add the slide's own deviation to the patient's gain without leaving the domain's ranges."""
    (low, high), (least, most) = _GAINS
    ranges = {
        "train": ((low, 1.0), (1.0, high)),
        "shift": ((least, low - 1e-3), (high + 1e-3, most)),
        "extreme": ((0.25, least - 1e-3), (most + 1e-3, 3.6)),
    }[domain]
    below, above = ranges
    moved = gain * float(np.exp(rng.normal(0, 0.04)))
    if domain == "train":
        return float(np.clip(moved, low, high))
    return float(np.clip(moved, *(below if gain < 1 else above)))


def draw_stain(patient_seed: int, seed: int, domain: str) -> Stain:
    """Draw the stain and scanner: mostly the patient's, with a little of the slide's own."""
    patient = Lot(stream(patient_seed, "stain"), domain)
    rng = stream(seed, "stain")

    def vector(base: tuple[float, float, float]) -> tuple[float, float, float]:
        v = _tilted(patient.rng, base, patient.among((0, 4), (6, 12), (12, 16)))
        return (round(float(v[0]), 5), round(float(v[1]), 5), round(float(v[2]), 5))

    haematoxylin, eosin = vector(_H), vector(_E)
    gains = [_jittered(patient.log_between(*_GAINS), rng, domain) for _ in range(2)]
    level = patient.rng.uniform(228, 250)
    white = [float(np.clip(level + patient.rng.normal(0, 3), 215, 254)) for _ in range(3)]
    return Stain(
        haematoxylin,
        eosin,
        gains[0],
        gains[1],
        patient.between((0.85, 1.15), (0.75, 1.3)),
        (white[0], white[1], white[2]),
        patient.between((0.12, 0.42), (0.12, 1.1)),
        patient.between((0.3, 2.0), (0.1, 3.5)),
        float(patient.rng.uniform(0.2, 1.6)) if patient.rng.random() < 0.7 else 0.0,
        int(rng.choice({"train": range(60, 96), "shift": [*range(40, 60), 96, 97], "extreme": range(25, 40)}[domain])),
    )


def draw_tissue(patient_seed: int, seed: int, domain: str) -> Tissue:
    """Draw the patient's fibre style and thickness; roughness also varies from slide to slide."""
    rng, own = stream(patient_seed, "texture"), stream(seed, "texture")
    lot = Lot(rng, domain)
    # Most tissue is only a little rougher than its fibrils; a part is rougher than any real tissue.
    rough = np.array([lot.between((0.01, 0.22), (0.005, 0.3)) for _ in range(3)]) * own.uniform(0.8, 1.2, 3)
    rough *= 1.0 if rng.random() < 0.35 else 0.3
    return Tissue(
        bundle_um=lot.log_between((10, 28), (7.5, 38)),
        length_ratio=lot.between((2.2, 5.5), (1.6, 7)),
        fine_um=lot.between((2.0, 3.3), (1.7, 3.9)),
        waviness=lot.between((0.35, 1.2), (0.2, 1.5)),
        cleft=lot.between((-0.1, 0.7), (-0.25, 0.85)),
        cleft_um=lot.log_between((5, 16), (4, 22)),
        crossing=float(rng.uniform(0.2, 1.4)),
        eosin=lot.log_between((0.28, 1.1), (0.2, 1.5)),
        ground_h=float(rng.uniform(0.0, 0.08)) if rng.random() < 0.8 else float(rng.uniform(0.08, 0.35)),
        fibroblasts_mm2=lot.log_between((250, 1700), (150, 2600)),
        rough_um=float(own.choice([0.5, 1.0, 2.0])),
        roughness=(float(rough[0]), float(rough[1]), float(rough[2])),
        thickness=float(rng.uniform(0.8, 1.2)),
        papillary_um=float(rng.uniform(60, 220)),
        epidermis_um=lot.log_between((40, 130), (30, 240)),
        rete_um=float(rng.uniform(5, 110)),
        rete_period_um=float(rng.uniform(60, 170)),
        fibril=lot.between((0.08, 0.26), (0.05, 0.34)),
        seam=float(rng.uniform(-0.35, 0.3)),
        cut_across=float(rng.uniform(0, 0.5)),
    )
