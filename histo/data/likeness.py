"""Near copies: the same scan under another name, stored anew, rescaled or slightly cropped, found by how it looks.

A fingerprint is a small picture of the tissue's optical density, cut to the tissue, so that glass around it and the
file's scale play no part. Two slides that may be alike by their perceptual hash (the signs of the lowest frequencies,
after Zauner 2010, "Implementation and benchmarking of perceptual image hash functions") are laid over one another at
small shifts and scales; only fine detail counts, since all blocks of skin have much the same outline.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from histo.data.glass import glass_of
from histo.data.tissue import optical_density
from histo.results import Overview

SIDE = 96
_LOW = 8  # lowest frequencies per axis in the hash
_MOST_BITS = 24  # of 63 that may differ; half of them do by chance
_INNER = 0.8  # part of one picture that is sought in the other
_SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
_FINE_PX = 6.0  # coarser structure is taken away
_LEAST_PIECE = 0.05  # of the tissue; smaller pieces do not say where it ends
_LEAST_DETAIL_OD = 1e-3
ALIKE = 0.6  # worth a look; unrelated phantoms reach 0.48 (docs/data.md has the figures)
SAME = 0.75  # beyond doubt; copies cropped by 8 % keep 0.85


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """How a slide's tissue looks: `picture` (SIDE, SIDE) float32 of fine optical density, `bits` (63,) of the hash."""

    picture: NDArray[np.float32]
    bits: NDArray[np.bool_]


def fingerprint(overview: Overview, tissue: NDArray[np.bool_]) -> Fingerprint | None:
    """Return the fingerprint of a slide's tissue mask (H, W) on its overview; None without tissue or any detail."""
    labels, count = ndimage.label(tissue, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = (sizes >= _LEAST_PIECE * max(1, sizes.sum())) & (sizes > 0)
    kept = large[labels]
    if not kept.any():
        return None
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    grey = optical_density(overview.rgb, glass_of(overview)).mean(axis=-1)[box]
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), _FINE_PX)
    fine = cv2.GaussianBlur(fine, (0, 0), 1.0)
    if fine.std() < _LEAST_DETAIL_OD:
        return None  # two empty fields are no evidence
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()[1:]
    return Fingerprint(np.asarray(fine, np.float32), low > np.median(low))


def likeness(one: Fingerprint, other: Fingerprint) -> float:
    """Return how alike two slides look: 1 for the same scan, about 0 for unrelated ones.

    It is the correlation of fine detail at the best of small shifts and scales, either way round.
    """
    return max(_sought(one.picture, other.picture), _sought(other.picture, one.picture))


def _sought(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    edge = round(SIDE * (1 - _INNER) / 2)
    inner = one[edge:-edge, edge:-edge]
    best = 0.0
    for x in _SCALES:
        for y in _SCALES:
            size = (round(inner.shape[1] * x), round(inner.shape[0] * y))
            template = cv2.resize(inner, size, interpolation=cv2.INTER_LINEAR)
            best = max(best, float(cv2.matchTemplate(other, template, cv2.TM_CCOEFF_NORMED).max()))
    return best


def near_copies(fingerprints: Sequence[Fingerprint | None]) -> list[tuple[int, int, float]]:
    """Return the pairs that look like the same scan, with their likeness."""
    known = [(n, f) for n, f in enumerate(fingerprints) if f is not None]
    pairs = []
    for k, (n, one) in enumerate(known):
        for m, other in known[k + 1 :]:
            if int((one.bits != other.bits).sum()) <= _MOST_BITS:
                alike = likeness(one, other)
                if alike >= ALIKE:
                    pairs.append((n, m, alike))
    return pairs
