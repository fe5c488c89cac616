"""Connective tissue: interwoven bundles, each with its own fibrils, tone and course, and white clefts between them.

Bundles are elongated cells in coordinates that run along and across the fibres and wave with the tissue; those of a
second family lie across the first. Fibrils come from a texture that is long in one direction, read at those
coordinates with a slant and an offset per bundle, so that neighbours do not continue one another like stripes.
Clefts follow the bundles' borders, open and close, and end in points.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from histo.phantom.layout import Layout
from histo.phantom.noise import F32, Window, enlarge, fraction, nearest, noise, power_of_two, ramp
from histo.phantom.nuclei import Spots, look_up
from histo.phantom.recipe import Tissue, new_seed

_ALONG = 4  # px per texel along the fibre; across it a texel is one pixel
_ROWS, _COLUMNS = 2048, 1024
_STEP = 2  # bundles are worked out on every second pixel


@dataclass(frozen=True, eq=False)
class Fibres:
    """Textures (rows, columns, 3: bundles, fibrils, slits), two of them alone, and the grid maps that bend them."""

    texture: F32
    bundles: F32
    slits: F32
    along: tuple[F32, F32]
    across: tuple[F32, F32]
    blend: F32
    cleft: F32
    tone: F32
    seed: int

    def course(self, spots: Spots, layout: Layout, tissue: Tissue) -> tuple[F32, F32]:
        """Return the fibres' direction (radians) and the distance to the bundle's border (µm) at places (N,)."""
        frame = layout.frame
        over = look_up(self.blend, spots, frame) > 0
        angle, border = [], []
        for family in (0, 1):
            gy, gx = (np.asarray(m, np.float32) for m in np.gradient(self.across[family]))
            angle.append(np.arctan2(look_up(gx, spots, frame), -look_up(gy, spots, frame)))
            p, q = (look_up(m[family], spots, frame) for m in (self.along, self.across))
            near, second, _ = _lattice(self.seed, family, p, q, tissue, frame.mpp)
            border.append(0.5 * (second - near) * frame.mpp)
        return (
            np.where(over, angle[1], angle[0]).astype(np.float32),
            np.where(over, border[1], border[0]).astype(np.float32),
        )


def _band(rng: np.random.Generator, length_px: float, narrow_px: float, wide_px: float) -> F32:
    """Return periodic noise with streaks of a length and of all widths in a range, unit variance."""
    parts = rng.standard_normal((_ROWS, _COLUMNS // 2 + 1, 2), dtype=np.float32)
    white = parts.view(np.complex64)[:, :, 0]
    v = np.abs(np.fft.fftfreq(_ROWS))[:, None]
    u = np.fft.rfftfreq(_COLUMNS, _ALONG)[None, :]
    low, high = 1 / (2 * wide_px), 1 / (2 * narrow_px)
    across = np.exp(-((v / high) ** 4)) * (1 - np.exp(-((v / low) ** 4)))
    shape = np.exp(-2 * (np.pi * length_px * u) ** 2) * across
    out = np.fft.irfft2(white * shape.astype(np.float32), s=(_ROWS, _COLUMNS)).astype(np.float32)
    return np.asarray(out / out.std(), np.float32)


def weave(rng: np.random.Generator, layout: Layout, tissue: Tissue) -> Fibres:
    """Draw the slide's fibres."""
    frame, mpp = layout.frame, layout.frame.mpp
    bundles = _band(rng, 22 / mpp, 2.5 / mpp, 12 / mpp)
    fine = _band(rng, 6 / mpp, 0.3 * tissue.fine_um / mpp, 0.75 * tissue.fine_um / mpp)
    slits = _band(rng, 3.5 * tissue.cleft_um / mpp, 0.7 * tissue.cleft_um / mpp, 2.2 * tissue.cleft_um / mpp)
    texture = np.pad(np.stack([bundles, fine, slits], axis=2), ((0, 1), (0, 1), (0, 0)), mode="wrap")
    y = (np.arange(frame.shape[0], dtype=np.float32)[:, None] + 0.5) * frame.cell_um
    x = (np.arange(frame.shape[1], dtype=np.float32)[None, :] + 0.5) * frame.cell_um
    main = layout.angle + float(rng.normal(0, 0.3))
    along, across = [], []
    for angle in (main, main + tissue.crossing * float(rng.choice([-1, 1]))):
        seeds = [new_seed(rng) for _ in range(6)]
        bend = 80 * frame.field(seeds[0], 520) + 12 * frame.field(seeds[1], 130)
        crimp = tissue.waviness * (6 * frame.field(seeds[2], 64) + 2.2 * frame.field(seeds[3], 24))
        stretch = 60 * frame.field(seeds[4], 520) + 12 * frame.field(seeds[5], 64)
        p = np.cos(angle) * x + np.sin(angle) * y + stretch
        q = -np.sin(angle) * x + np.cos(angle) * y + bend + crimp
        along.append((p / mpp).astype(np.float32))
        across.append((q / mpp).astype(np.float32))
    seeds = [new_seed(rng) for _ in range(4)]
    blend = frame.field(seeds[0], 130, 2) - float(rng.uniform(-0.3, 1.2))
    # The share of clefts differs from place to place: dense here, torn there.
    cleft = tissue.cleft + 0.25 * frame.field(seeds[1], 260, 2) - 0.8 * layout.papillary
    tone = 1 + 0.1 * frame.field(seeds[2], 520, 2) - 0.25 * layout.papillary
    return Fibres(
        texture.astype(np.float32),
        np.ascontiguousarray(texture[:, :, 0]),
        np.ascontiguousarray(texture[:, :, 2]),
        (along[0], along[1]),
        (across[0], across[1]),
        blend.astype(np.float32),
        cleft.astype(np.float32),
        tone.astype(np.float32),
        seeds[3],
    )


def read_fibres(texture: F32, p: F32, q: F32) -> F32:
    """Read a texture at coordinates in px along and across, shape (h, w) or (h, w, 3)."""
    p = p * np.float32(1 / _ALONG)
    p -= np.float32(_COLUMNS) * np.floor(p * np.float32(1 / _COLUMNS))
    q = q - np.float32(_ROWS) * np.floor(q * np.float32(1 / _ROWS))
    return np.asarray(cv2.remap(texture, p, q, cv2.INTER_LINEAR), np.float32)


def _lattice(seed: int, family: int, p: F32, q: F32, tissue: Tissue, mpp: float) -> tuple[F32, F32, F32]:
    """Return distances to the two nearest bundles' axes (px) and the nearest one's number."""
    return nearest(seed + 1 + 17 * family, q, p * np.float32(1 / tissue.length_ratio), tissue.bundle_um / mpp)


def collagen(fibres: Fibres, tissue: Tissue, window: Window, factor: int, mpp: float) -> tuple[F32, F32]:
    """Return the eosin of connective tissue and its haematoxylin, both (h, w)."""
    ragged = noise(fibres.seed + 40, window, power_of_two(6 / mpp), 3)
    p, q, border, mark = _bundles(fibres, tissue, window, factor, mpp, ragged)
    # Fibrils are crimped, and fade in and out along their way.
    q += np.float32(1.5 * tissue.waviness / mpp) * noise(fibres.seed + 43, window, power_of_two(13 / mpp), 2)
    q += np.float32(0.5) * ragged
    fading = np.float32(0.75) + np.float32(0.5) * noise(fibres.seed + 44, window, power_of_two(8 / mpp), 2)
    # A bundle has a slant and a place in the texture of its own.
    slant = np.float32(0.5) * (fraction(mark * np.float32(7.3)) - np.float32(0.5))
    place = np.floor(mark * np.float32(97)) * np.float32(31)
    streaks = read_fibres(fibres.texture, p + place, q + slant * p + mark * np.float32(1900))
    bundle, fine = streaks[:, :, 0], np.ascontiguousarray(streaks[:, :, 1])
    if tissue.cut_across:
        stipple = noise(fibres.seed + 41, window, power_of_two(1.4 / mpp), 2)
        across = fraction(mark * np.float32(13.1)) < np.float32(tissue.cut_across)
        np.copyto(fine, np.float32(0.25) * fine + np.float32(0.8) * stipple, where=across)
    eosin = np.float32(0.3) * mark + np.float32(0.06) * bundle + np.float32(tissue.fibril) * fine * fading
    eosin += np.float32(tissue.roughness[0]) * noise(fibres.seed, window, power_of_two(tissue.rough_um / mpp))
    eosin += np.float32(0.75)
    eosin *= np.float32(tissue.eosin) * enlarge(fibres.tone, window, factor)
    border += np.float32(0.8) * ragged
    np.abs(border, out=border)
    border *= np.float32(-0.45)
    seam = np.asarray(cv2.exp(border), np.float32)
    body = _body(fibres, tissue, enlarge(fibres.cleft, window, factor), p, q, ragged, mpp)
    eosin *= (1 + np.float32(tissue.seam) * seam) * body
    h = np.float32(0.02) * fine + np.float32(0.03) * seam + np.float32(0.02 + tissue.ground_h)
    return np.maximum(eosin, 0), np.maximum(h * body, 0)


def _body(fibres: Fibres, tissue: Tissue, share: F32, p: F32, q: F32, ragged: F32, mpp: float) -> F32:
    """Return 1 in tissue and 0 in clefts, which run along the fibres and open and close, so that they end in points."""
    cleft = np.float32(tissue.cleft_um / mpp)
    slit = np.abs(read_fibres(fibres.slits, p, q))
    widening = read_fibres(
        fibres.bundles, np.float32(0.45) * p + np.float32(977), np.float32(0.3) * q + np.float32(511)
    )
    wide = (share + np.float32(0.8) * widening - np.float32(0.75)) * (np.float32(0.22) * cleft)
    np.clip(wide, -2, np.float32(0.2) * cleft, out=wide)
    return ramp(slit * (np.float32(0.4) * cleft) - wide + np.float32(0.5) * ragged, -0.8, 0.8)


def _bundles(
    fibres: Fibres, tissue: Tissue, window: Window, factor: int, mpp: float, ragged: F32
) -> tuple[F32, F32, F32, F32]:
    """Return coordinates along and across the topmost bundle, distance to its border (px), and its number."""
    y0, x0 = window.y // _STEP - 1, window.x // _STEP - 1
    y1, x1 = -(-(window.y + window.h) // _STEP) + 1, -(-(window.x + window.w) // _STEP) + 1
    small, half = Window(y0, x0, y1 - y0, x1 - x0), max(1, factor // _STEP)
    top, left = window.y - y0 * _STEP, window.x - x0 * _STEP
    cut = np.s_[top : top + window.h, left : left + window.w]
    maps, layers = (fibres.along, fibres.across), []
    for family in (0, 1):
        p, q = (enlarge(m[family], small, half) for m in maps)
        near, second, mark = _lattice(fibres.seed, family, p, q, tissue, mpp)
        parts = [np.float32(0.5) * (second - near)]
        if family:  # this bundle lies on top here, or ends
            parts.append((enlarge(fibres.blend, small, half) + 1.6 * (mark - 0.5)) * np.float32(8 / mpp))
        wide = [cv2.resize(m, None, fx=_STEP, fy=_STEP, interpolation=cv2.INTER_LINEAR)[cut] for m in parts]
        marks = np.asarray(cv2.resize(mark, None, fx=_STEP, fy=_STEP, interpolation=cv2.INTER_NEAREST)[cut], np.float32)
        layers.append((np.asarray(np.minimum(wide[0], wide[1]) if family else wide[0], np.float32), marks))
    over = layers[1][0] > -0.5 * ragged
    p, q = (np.where(over, enlarge(m[1], window, factor), enlarge(m[0], window, factor)) for m in maps)
    border = np.where(over, layers[1][0], np.minimum(layers[0][0], -layers[1][0]))
    return p, q, np.asarray(border, np.float32), np.where(over, layers[1][1], layers[0][1])
