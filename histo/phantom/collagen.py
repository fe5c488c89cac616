"""Connective tissue: interwoven bundles, each with its own striation, tone and course, and white clefts.

Bundles are elongated cells in coordinates that run along and across the fibres and wave with the tissue.
Striation comes from a texture that is long in one direction, read at those coordinates with an offset per
bundle, so that neighbouring bundles do not continue one another like stripes.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window, enlarge, nearest, noise, power_of_two, ramp
from histo.phantom.recipe import Tissue, new_seed

_ALONG = 4  # px per texel along the fibre; across it a texel is one pixel
_ROWS, _COLUMNS = 2048, 1024
_STEP = 2  # bundles are worked out on every second pixel


@dataclass(frozen=True, eq=False)
class Fibres:
    """Textures (rows, columns, 3: bundles, striation, slits) and the grid maps that bend them."""

    texture: F32
    along: tuple[F32, F32]
    across: tuple[F32, F32]
    angles: tuple[float, float]
    blend: F32
    cleft: F32
    tone: F32
    seed: int


def _band(rng: np.random.Generator, length_px: float, width_px: float, broad: float) -> F32:
    """Return periodic noise with streaks of a length and a width, unit variance."""
    white = np.fft.rfft2(rng.standard_normal((_ROWS, _COLUMNS), dtype=np.float32))
    v = np.abs(np.fft.fftfreq(_ROWS))[:, None]
    u = np.fft.rfftfreq(_COLUMNS, _ALONG)[None, :]
    centre = 1 / (2 * width_px)
    shape = np.exp(-2 * (np.pi * length_px * u) ** 2) * np.exp(-((v - centre) ** 2) / (2 * (broad * centre) ** 2))
    out = np.fft.irfft2(white * shape, s=(_ROWS, _COLUMNS)).astype(np.float32)
    return np.asarray(out / out.std(), np.float32)


def weave(rng: np.random.Generator, layout: Layout, tissue: Tissue) -> Fibres:
    """Draw the slide's fibres."""
    frame, mpp = layout.frame, layout.frame.mpp
    bundles = _band(rng, 24 / mpp, 5 / mpp, 0.7)
    fine = _band(rng, 8 / mpp, tissue.fine_um / mpp, 0.6)
    slits = _band(rng, 1.6 * tissue.cleft_um / mpp, tissue.cleft_um / mpp, 0.8)
    texture = np.pad(np.stack([bundles, fine, slits], axis=2), ((0, 1), (0, 1), (0, 0)), mode="wrap")
    y = (np.arange(frame.shape[0], dtype=np.float32)[:, None] + 0.5) * frame.cell_um
    x = (np.arange(frame.shape[1], dtype=np.float32)[None, :] + 0.5) * frame.cell_um
    main = layout.angle + float(rng.normal(0, 0.3))
    angles = (main, main + tissue.crossing * float(rng.choice([-1, 1])))
    along, across = [], []
    for angle in angles:
        seeds = [new_seed(rng) for _ in range(6)]
        bend = 100 * frame.field(seeds[0], 520) + 34 * frame.field(seeds[1], 130)
        crimp = tissue.waviness * (11 * frame.field(seeds[2], 64) + 3.6 * frame.field(seeds[3], 24))
        stretch = 60 * frame.field(seeds[4], 520) + 12 * frame.field(seeds[5], 64)
        p = np.cos(angle) * x + np.sin(angle) * y + stretch
        q = -np.sin(angle) * x + np.cos(angle) * y + bend + crimp
        along.append((p / mpp).astype(np.float32))
        across.append((q / mpp).astype(np.float32))
    seeds = [new_seed(rng) for _ in range(4)]
    blend = ramp(frame.field(seeds[0], 130, 2), 0.1, 0.2)
    # The share of clefts differs from place to place: dense here, torn there.
    cleft = tissue.cleft + 0.25 * frame.field(seeds[1], 260, 2) - 1.2 * layout.papillary
    tone = 1 + 0.12 * frame.field(seeds[2], 520, 2) - 0.25 * layout.papillary
    return Fibres(
        texture.astype(np.float32),
        (along[0], along[1]),
        (across[0], across[1]),
        angles,
        blend,
        cleft.astype(np.float32),
        tone.astype(np.float32),
        seeds[3],
    )


def read_fibres(fibres: Fibres, p: F32, q: F32) -> F32:
    """Read the texture at coordinates in px along and across, shape (h, w, 3)."""
    p = p * np.float32(1 / _ALONG)
    p -= np.float32(_COLUMNS) * np.floor(p * np.float32(1 / _COLUMNS))
    q = q - np.float32(_ROWS) * np.floor(q * np.float32(1 / _ROWS))
    return np.asarray(cv2.remap(fibres.texture, p, q, cv2.INTER_LINEAR), np.float32)


def fibres_in(fibres: Fibres, window: Window, factor: int, family: int, zoom: float = 1.0) -> F32:
    """Read the three textures along one family's fibres, shape (h, w, 3); `zoom` above 1 widens them."""
    scale = np.float32(1 / zoom)
    p = enlarge(fibres.along[family], window, factor) * scale
    return read_fibres(fibres, p, enlarge(fibres.across[family], window, factor) * scale)


def collagen(fibres: Fibres, tissue: Tissue, window: Window, factor: int, mpp: float) -> tuple[F32, F32]:
    """Return the eosin of connective tissue and its haematoxylin, both (h, w)."""
    second = enlarge(fibres.blend, window, factor) > 0.5
    pair = [enlarge(m, window, factor) for m in (*fibres.along, *fibres.across)]
    p, q = np.where(second, pair[1], pair[0]), np.where(second, pair[3], pair[2])
    fine_rough = noise(fibres.seed, window, power_of_two(tissue.rough_um / mpp))
    gap, mark, width = _bundles(fibres, tissue, window, factor, mpp)
    offset = np.floor(mark * 64) * np.float32(31.0)
    streaks = read_fibres(fibres, p + offset, q + 3 * offset)
    bundle, fine, slit = cv2.split(streaks)
    eosin = 0.8 + 0.28 * (mark - 0.5) + 0.09 * bundle + 0.12 * fine + np.float32(tissue.roughness[0]) * fine_rough
    eosin *= np.float32(tissue.eosin) * enlarge(fibres.tone, window, factor)
    share = enlarge(fibres.cleft, window, factor)
    # Bundles lie apart by a share of their width where the tissue is loose, and touch where it is dense.
    loose = np.clip(share - 0.35, -0.3, 0.35) + 0.55 * (((mark * 9.7) % 1) - 0.6)
    apart = width * np.clip(loose, -0.03, 0.33)
    edge = gap + 0.8 * fine_rough + 0.5 * fine - apart
    body = ramp(edge, -1.0, 1.2)
    body *= 1 - 0.9 * ramp(slit + 0.5 * share, 2.1, 2.5)
    seam = 1 - 0.3 * np.exp(-np.maximum(edge, 0) * np.float32(0.5))
    eosin *= seam * (0.03 + 0.97 * body)
    return np.maximum(eosin, 0), np.maximum((np.float32(0.02 + tissue.ground_h) + 0.02 * fine) * body, 0)


def _bundles(fibres: Fibres, tissue: Tissue, window: Window, factor: int, mpp: float) -> tuple[F32, F32, float]:
    """Return distance to the bundle's border across the fibres (px), the bundle's number, and their width (px)."""
    y0, x0 = window.y // _STEP - 1, window.x // _STEP - 1
    y1, x1 = -(-(window.y + window.h) // _STEP) + 1, -(-(window.x + window.w) // _STEP) + 1
    small = Window(y0, x0, y1 - y0, x1 - x0)
    half = factor // _STEP
    second = enlarge(fibres.blend, small, half) > 0.5 if half > 1 else enlarge(fibres.blend, small, 1) > 0.5
    pair = [enlarge(m, small, max(1, half)) for m in (*fibres.along, *fibres.across)]
    p, q = np.where(second, pair[1], pair[0]), np.where(second, pair[3], pair[2])
    width = tissue.bundle_um / mpp
    # Bundles are several times longer than wide, and wider in some places than in others.
    near, next_, mark = nearest(fibres.seed + 1, q, p * np.float32(1 / tissue.length_ratio), width)
    wide = [
        cv2.resize(m, None, fx=_STEP, fy=_STEP, interpolation=way)
        for m, way in ((next_ - near, cv2.INTER_LINEAR), (mark, cv2.INTER_NEAREST))
    ]
    top, left = window.y - y0 * _STEP, window.x - x0 * _STEP
    cut = np.s_[top : top + window.h, left : left + window.w]
    return np.asarray(wide[0][cut], np.float32), np.asarray(wide[1][cut], np.float32), width
