"""Noise and cell patterns that depend on global coordinates only, so that chunks meet without a seam.

Every function takes a `Window` of level-0 pixels and returns float32 of shape (h, w). Lattice spacings are
powers of two: the interpolation weights are then exact and a pixel does not depend on its chunk.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_CUBIC = 8  # the widest spacing that is interpolated in one go


class Window(NamedTuple):
    """A rectangle of pixels: top, left, height, width; top and left may be negative."""

    y: int
    x: int
    h: int
    w: int

    def meet(self, other: "Window") -> "Window | None":
        """Return the common rectangle, None where there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        h = min(self.y + self.h, other.y + other.h) - y
        w = min(self.x + self.w, other.x + other.w) - x
        return Window(y, x, h, w) if h > 0 and w > 0 else None

    def within(self, outer: "Window") -> tuple[slice, slice]:
        """Return the slices of this rectangle in an array that covers `outer`."""
        y, x = self.y - outer.y, self.x - outer.x
        return slice(y, y + self.h), slice(x, x + self.w)


def _mix(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Scramble 32-bit numbers in place (xor-shift-multiply)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        value ^= value >> np.uint32(shift)
        value *= np.uint32(factor)
    value ^= value >> np.uint32(16)
    return value


def hashed(seed: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> F32:
    """Return numbers in [0, 1) for every pair of lattice row and column, shape (rows, columns)."""
    top = _mix((rows.astype(np.uint32) * np.uint32(0x9E3779B1)) ^ np.uint32(seed & 0xFFFFFFFF))
    left = _mix((columns.astype(np.uint32) * np.uint32(0x85EBCA77)) ^ np.uint32((seed >> 32) & 0xFFFFFFFF))
    bits = _mix(top[:, None] ^ (left[None, :] * np.uint32(0xC2B2AE3D)))
    bits >>= np.uint32(8)
    return bits.astype(np.float32) * np.float32(2**-24)


def power_of_two(length_px: float) -> int:
    """Return the power of two nearest to a length in pixels, at least 1."""
    return 1 << max(0, round(float(np.log2(max(length_px, 1.0)))))


def noise(seed: int, window: Window, spacing_px: int, octaves: int = 1) -> F32:
    """Return smooth noise of about unit variance whose blobs are about `spacing_px` wide."""
    total: F32 | None = None
    for octave in range(octaves):
        step = spacing_px >> octave
        if step < 1:
            break
        layer = _layer(seed + 7919 * octave, window, step)
        if total is None:
            total = layer
        else:
            layer *= np.float32(0.5**octave)
            total += layer
    assert total is not None
    return total


def _layer(seed: int, window: Window, step: int) -> F32:
    if step > _CUBIC:  # smooth at this size already: cubic on a coarser raster, then linear, at a tenth of the cost
        scale = step // _CUBIC
        coarse = _cover(window, scale, 1)
        return _stretched(_layer(seed, coarse, _CUBIC), coarse, window, scale, cv2.INTER_LINEAR)
    cover = _cover(window, step, 2 if step > 1 else 0)
    rows, columns = np.arange(cover.y, cover.y + cover.h), np.arange(cover.x, cover.x + cover.w)
    lattice = hashed(seed, rows, columns)
    lattice -= np.float32(0.5)
    lattice *= np.float32(4.2)  # a uniform number widened so that the interpolated field has variance 1
    return lattice if step == 1 else _stretched(lattice, cover, window, step, cv2.INTER_CUBIC)


def _cover(window: Window, factor: int, margin: int) -> Window:
    """Return the raster cells of `factor` px that cover a window, with a margin for interpolation."""
    y, x = window.y // factor - margin, window.x // factor - margin
    bottom, right = -(-(window.y + window.h) // factor) + margin, -(-(window.x + window.w) // factor) + margin
    return Window(y, x, bottom - y, right - x)


def _stretched(raster: F32, cover: Window, window: Window, factor: int, way: int) -> F32:
    """Interpolate a raster over `cover` cells of `factor` px and cut the window out."""
    wide = cv2.resize(raster, None, fx=factor, fy=factor, interpolation=way)
    y, x = window.y - cover.y * factor, window.x - cover.x * factor
    return np.asarray(wide[y : y + window.h, x : x + window.w], np.float32)


def enlarge(grid: F32, window: Window, factor: int, smooth: bool = True) -> F32:
    """Interpolate a map with one value per `factor` pixels over a window; beyond the map its edge goes on."""
    cover = _cover(window, factor, 1)
    rows = np.clip(np.arange(cover.y, cover.y + cover.h), 0, grid.shape[0] - 1)
    columns = np.clip(np.arange(cover.x, cover.x + cover.w), 0, grid.shape[1] - 1)
    way = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return _stretched(grid[rows][:, columns], cover, window, factor, way)


def ramp(value: F32, low: float, high: float) -> F32:
    """Rise from 0 at `low` to 1 at `high` with soft ends; `high` below `low` makes it fall."""
    t = value - np.float32(low)
    t *= np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    rise = t * np.float32(-2)
    rise += np.float32(3)
    rise *= t
    rise *= t
    return np.asarray(rise, np.float32)


def fraction(value: F32) -> F32:
    """Return what lies behind the point: a new number per cell out of a cell's number, at little cost."""
    return np.asarray(value - np.floor(value), np.float32)


def layers(seed: int, coordinate: F32, spacing: float) -> F32:
    """Return noise of unit variance along one coordinate only: sheets about `spacing` thick, of no fixed period."""
    t = coordinate * np.float32(1 / spacing)
    low = np.floor(t)
    first = int(low.min())
    values = hashed(seed, np.arange(first, int(low.max()) + 2), np.zeros(1, np.int64))[:, 0]
    values = (values - np.float32(0.5)) * np.float32(4.2)
    t -= low
    index = low.astype(np.int32) - first
    t = t * t * (3 - 2 * t)
    below = np.take(values, index)
    return np.asarray(below + t * (np.take(values, index + 1) - below), np.float32)


class Cells(NamedTuple):
    """A cell pattern: distance between the two nearest seeds' distances (px), and a number per cell in [0, 1)."""

    gap_px: F32
    mark: F32


def cells(
    seed: int,
    window: Window,
    size_px: float,
    step: int = 2,
    warp_px: float = 0.0,
    stretch: tuple[float, float] = (1.0, 0.0),
) -> Cells:
    """Return irregular cells about `size_px` wide, worked out on every `step`-th pixel.

    `stretch` makes them longer by a factor in a direction (radians); the gap is then in units across it.
    """
    y0, x0 = window.y // step - 1, window.x // step - 1
    y1, x1 = -(-(window.y + window.h) // step) + 1, -(-(window.x + window.w) // step) + 1
    yy = np.broadcast_to(np.arange(y0, y1, dtype=np.float32)[:, None] * step, (y1 - y0, x1 - x0))
    xx = np.broadcast_to(np.arange(x0, x1, dtype=np.float32)[None, :] * step, (y1 - y0, x1 - x0))
    if warp_px:
        small = Window(y0, x0, y1 - y0, x1 - x0)
        spacing = power_of_two(size_px / step / 3)
        yy = yy + np.float32(warp_px) * noise(seed + 11, small, spacing, 2)
        xx = xx + np.float32(warp_px) * noise(seed + 12, small, spacing, 2)
    longer, turn = stretch
    if longer != 1.0:
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        yy, xx = c * yy - s * xx, (s * yy + c * xx) * np.float32(1 / longer)
    near, second, mark = nearest(seed, yy, xx, size_px)
    gap = cv2.resize(second - near, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    wide = cv2.resize(mark, None, fx=step, fy=step, interpolation=cv2.INTER_NEAREST)
    y, x = window.y - y0 * step, window.x - x0 * step
    cut = np.s_[y : y + window.h, x : x + window.w]
    return Cells(np.asarray(gap[cut], np.float32), np.asarray(wide[cut], np.float32))


def nearest(seed: int, yy: F32, xx: F32, size_px: float, rings: int = 1) -> tuple[F32, F32, F32]:
    """Return the distances to the nearest and second seed (px) and the nearest seed's number.

    One ring of neighbours is fast and leaves rare straight breaks in the second distance; two leave none.
    """
    gy, gx = yy * np.float32(1 / size_px), xx * np.float32(1 / size_px)
    jy, jx = np.floor(gy).astype(np.intp), np.floor(gx).astype(np.intp)
    low_y, low_x = int(jy.min()) - rings, int(jx.min()) - rings
    rows, columns = np.arange(low_y, int(jy.max()) + rings + 1), np.arange(low_x, int(jx.max()) + rings + 1)
    py = rows[:, None] + 0.1 + 0.8 * hashed(seed + 1, rows, columns)
    px = columns[None, :] + 0.1 + 0.8 * hashed(seed + 2, rows, columns)
    marks = hashed(seed + 3, rows, columns).ravel()
    py, px = py.astype(np.float32).ravel(), px.astype(np.float32).ravel()
    near, second = (np.full(gy.shape, 9.0, np.float32) for _ in range(2))
    which, index = np.zeros(gy.shape, np.intp), np.empty(gy.shape, np.intp)
    d, e, farther = (np.empty(gy.shape, np.float32) for _ in range(3))
    base = (jy - low_y) * len(columns) + (jx - low_x)
    for dy in range(-rings, rings + 1):
        for dx in range(-rings, rings + 1):
            np.add(base, dy * len(columns) + dx, out=index)
            np.take(py, index, out=d, mode="clip")
            np.take(px, index, out=e, mode="clip")
            d -= gy
            d *= d
            e -= gx
            e *= e
            d += e
            np.maximum(d, near, out=farther)
            np.minimum(second, farther, out=second)
            np.copyto(which, index, where=d < near)
            np.minimum(near, d, out=near)
    scale = np.float32(size_px)
    return np.sqrt(near) * scale, np.sqrt(second) * scale, marks[which]
