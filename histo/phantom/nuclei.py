"""Nuclei and other small stamps: a bank of drawn shapes, where they go, and putting them on a canvas."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.phantom.layout import Frame
from histo.phantom.noise import F32, Window, hashed

ANGLES, SHAPES = 16, 8
_PER_TYPE = ANGLES * SHAPES
_FINER = 2  # shapes are drawn this much finer than the slide, then turned

# Half length and half width in µm, chromatin contrast, rim.
_TYPES: Final = {
    "fibroblast": ((3.2, 8.5), (0.6, 1.4), 0.3, 0.1),
    "lymphocyte": ((2.3, 3.5), (2.1, 3.2), 0.5, 0.05),
    "epithelial": ((3.2, 5.2), (2.4, 3.6), 0.4, 0.2),
    "plump": ((3.6, 7.5), (2.4, 4.2), 0.5, 0.3),
    "spindle": ((5.0, 11.0), (1.2, 2.6), 0.5, 0.25),
    "lacuna": ((2.6, 6.6), (1.1, 2.6), 0.1, 0.0),
    "osteocyte": ((1.8, 4.2), (0.8, 1.6), 0.2, 0.0),
    "vesicular": ((4.0, 8.5), (2.8, 5.2), 0.6, 0.7),
    "basaloid": ((3.2, 5.4), (2.0, 3.2), 0.3, 0.1),
    "dust": ((0.8, 2.2), (0.6, 1.8), 0.3, 0.0),
    "round": ((3.0, 4.4), (2.7, 4.0), 0.55, 0.25),
    "pyknotic": ((2.2, 4.0), (1.5, 2.8), 0.1, 0.0),
    "small": ((2.0, 3.0), (1.7, 2.6), 0.5, 0.1),
    "oval": ((2.6, 4.6), (1.6, 2.9), 0.45, 0.2),
    "thin": ((3.8, 7.0), (1.0, 1.9), 0.3, 0.1),
}
TYPES: Final = tuple(_TYPES)


@dataclass(frozen=True, eq=False)
class Stamps:
    """Stamps sorted by row: centres in level-0 px (N, 2 as y, x), index into the bank (N,), strength (N,)."""

    yx: NDArray[np.int32]
    index: NDArray[np.int32]
    gain: F32


def bank_of(rng: np.random.Generator, mpp: float) -> list[F32]:
    """Draw the slide's shapes: for every type, angle and variant one map in 0..about 1.3."""
    bank: list[F32] = []
    for name in TYPES:
        shapes = [_shape(rng, TYPES.index(name), mpp / _FINER) for _ in range(SHAPES)]
        bank += [_turned(shape, np.pi * angle / ANGLES) for angle in range(ANGLES) for shape in shapes]
    return bank


def _turned(shape: F32, angle: float) -> F32:
    """Turn a finely drawn shape and bring it to the slide's scale."""
    fine, reach = shape.shape[0] // 2, shape.shape[0] // 2 // _FINER
    c, s = _FINER * np.cos(angle), _FINER * np.sin(angle)
    way = np.array([[c, s, fine - reach * (c + s)], [-s, c, fine - reach * (c - s)]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(shape, way, (2 * reach + 1, 2 * reach + 1), flags=flags), np.float32)


def _shape(rng: np.random.Generator, kind: int, mpp: float) -> F32:
    """Draw one shape that lies along x."""
    lengths, widths, contrast, rim = _TYPES[TYPES[kind]]
    a, b = rng.uniform(*lengths) / mpp, rng.uniform(*widths) / mpp
    a, b = max(a, b), min(a, b)
    reach = (int(np.ceil(a * 1.25 / _FINER)) + 2) * _FINER
    q, p = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    q = q + np.float32(rng.normal(0, 0.12) / max(a, 1.0)) * p * p
    turn = np.arctan2(q / b, p / a)
    waves = [(k, rng.normal(0, 0.1 / k), rng.uniform(0, 6.28)) for k in (2, 3, 4, 5)]
    outline = 1 + sum(height * np.cos(k * turn + shift) for k, height, shift in waves)
    radius = np.sqrt((p / a) ** 2 + (q / b) ** 2) / outline
    alpha = np.clip((1 - radius) * b * float(rng.uniform(0.3, 0.7)) + 0.5, 0, 1)
    white = rng.standard_normal(q.shape, dtype=np.float32)
    # Chromatin: clumps of about a micrometre, and one side of the nucleus denser than the other.
    grain = cv2.GaussianBlur(white, (0, 0), max(0.5, 0.5 / mpp)) * (1.1 / mpp)
    grain += cv2.GaussianBlur(white, (0, 0), 1.4 / mpp) * (2.6 / mpp)
    grain /= grain.std() + 1e-6
    body = 1 + contrast * 0.5 * grain + rim * np.clip(radius - 0.45, 0, 0.55) / 0.55 - rim * 0.5
    return np.asarray(alpha * np.clip(body, 0.25, 1.6) * float(rng.uniform(0.75, 1.1)), np.float32)


def choose(kind: str, angles: F32, picks: F32) -> NDArray[np.int32]:
    """Return bank indices of one type for directions in radians and uniform numbers (N,)."""
    bins = np.round(angles / np.pi * ANGLES).astype(np.int64) % ANGLES
    shapes = np.minimum((picks * SHAPES).astype(np.int64), SHAPES - 1)
    return np.asarray(TYPES.index(kind) * _PER_TYPE + bins * SHAPES + shapes, np.int32)


@dataclass(frozen=True, eq=False)
class Spots:
    """Candidate places on a jittered lattice: centres in µm (N,), and four uniform numbers each (4, N)."""

    y_um: F32
    x_um: F32
    luck: tuple[F32, F32, F32, F32]


def lattice(seed: int, box_um: tuple[float, float, float, float], spacing_um: float) -> Spots:
    """Spread places over a box (top, left, height, width) that keep apart like packed cells."""
    top, left, height, width = box_um
    rows = np.arange(int(top // spacing_um), int((top + height) // spacing_um) + 1)
    columns = np.arange(int(left // spacing_um), int((left + width) // spacing_um) + 1)
    shift = [hashed(seed + k, rows, columns) for k in range(6)]
    y = (rows[:, None] + 0.5 + 0.75 * (shift[0] - 0.5)) * spacing_um
    x = (columns[None, :] + 0.5 * (rows[:, None] % 2) + 0.75 * (shift[1] - 0.5)) * spacing_um
    luck = (shift[2].ravel(), shift[3].ravel(), shift[4].ravel(), shift[5].ravel())
    return Spots(y.ravel().astype(np.float32), x.ravel().astype(np.float32), luck)


def keep(spots: Spots, chosen: NDArray[np.bool_]) -> Spots:
    """Return the chosen places."""
    a, b, c, d = (v[chosen] for v in spots.luck)
    return Spots(spots.y_um[chosen], spots.x_um[chosen], (a, b, c, d))


def look_up(grid: F32, spots: Spots, frame: Frame, origin: tuple[int, int] = (0, 0)) -> F32:
    """Read a map, whose first cell is `origin`, at the places; the edge goes on beyond it."""
    j = np.clip((spots.y_um / frame.cell_um).astype(np.int64) - origin[0], 0, grid.shape[0] - 1)
    i = np.clip((spots.x_um / frame.cell_um).astype(np.int64) - origin[1], 0, grid.shape[1] - 1)
    return np.asarray(grid[j, i])


def stamps_at(spots: Spots, index: NDArray[np.int32], gain: F32, mpp: float) -> Stamps:
    """Turn places into stamps, sorted by row."""
    yx = np.floor(np.stack([spots.y_um, spots.x_um], 1) / mpp).astype(np.int32).reshape(-1, 2)
    order = np.lexsort((yx[:, 1], yx[:, 0]))
    return Stamps(yx[order], index[order], gain.astype(np.float32)[order])


def join(parts: list[Stamps]) -> Stamps:
    """Return all stamps in one, sorted by row."""
    yx = np.concatenate([np.zeros((0, 2), np.int32), *(p.yx for p in parts)])
    index = np.concatenate([np.zeros(0, np.int32), *(p.index for p in parts)])
    gain = np.concatenate([np.zeros(0, np.float32), *(p.gain for p in parts)])
    order = np.lexsort((index, yx[:, 1], yx[:, 0]))
    return Stamps(yx[order], index[order], gain[order])


def put(target: F32, window: Window, stamps: Stamps, bank: list[F32]) -> None:
    """Put the stamps that reach into `window` on its map `target` (h, w); the darker of two stays."""
    reach = 80
    first, last = np.searchsorted(stamps.yx[:, 0], (window.y - reach, window.y + window.h + reach))
    x = stamps.yx[first:last, 1]
    near = np.flatnonzero((x > window.x - reach) & (x < window.x + window.w + reach)) + first
    rows, columns = stamps.yx[near, 0] - window.y, stamps.yx[near, 1] - window.x
    for y, x0, index, gain in zip(
        rows.tolist(), columns.tolist(), stamps.index[near].tolist(), stamps.gain[near], strict=True
    ):
        shape = bank[index]
        r = shape.shape[0] // 2
        top, left = max(0, y - r), max(0, x0 - r)
        bottom, right = min(window.h, y + r + 1), min(window.w, x0 + r + 1)
        if bottom <= top or right <= left:
            continue
        part = target[top:bottom, left:right]
        piece = shape[top - y + r : bottom - y + r, left - x0 + r : right - x0 + r] * gain
        np.maximum(part, piece, out=part)
