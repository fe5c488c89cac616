"""Painting artefacts on a chunk after tissue and lesions, before stain becomes light."""

import numpy as np

from histo.phantom.artefacts import ARTEFACTS, Artefacts, Mark
from histo.phantom.canvas import Canvas
from histo.phantom.layout import Frame
from histo.phantom.noise import F32, Window, enlarge, hashed, noise, power_of_two, ramp
from histo.phantom.reaction import shatter_lines


def paint_artefacts(canvas: Canvas, artefacts: Artefacts, frame: Frame) -> None:
    """Paint all artefacts that reach into the chunk and label those that have a place."""
    window, mpp = canvas.window, frame.mpp
    if artefacts.defocus is not None:
        canvas.defocus = enlarge(artefacts.defocus, window, frame.factor)
    if artefacts.bands is not None:
        period, strength, turn = artefacts.bands
        wobble = noise(artefacts.seed + 1, window, power_of_two(250 / mpp), 2)
        across = _across(window, mpp, turn) * np.float32(2 * np.pi / period) + wobble
        _scale(canvas, 1 + np.float32(strength) * np.sin(across))
    if artefacts.chatter is not None:
        period, strength, turn = artefacts.chatter
        patch = ramp(noise(artefacts.seed + 2, window, power_of_two(500 / mpp), 2), 0.3, 1.0)
        _scale(canvas, 1 - np.float32(strength) * patch * shatter_lines(artefacts.seed, window, mpp, period, turn))
    if artefacts.tear is not None:
        ragged = 4 * noise(artefacts.seed + 3, window, power_of_two(12 / mpp), 3)
        open_ = ramp(enlarge(artefacts.tear, window, frame.factor) + ragged, -1, 1)
        _scale(canvas, 1 - open_)
        canvas.label[open_ >= 0.5] = ARTEFACTS["tear"]
    for mark in artefacts.marks:
        _PAINTERS[mark.kind](canvas, mark, artefacts.seed, mpp)
    if artefacts.stripes is not None:
        _stripes(canvas, artefacts.seed, *artefacts.stripes)


def _across(window: Window, mpp: float, turn: float, y_um: float = 0.0, x_um: float = 0.0) -> F32:
    """Return the distance (µm) across a direction from a point, shape (h, w)."""
    y = (np.arange(window.y, window.y + window.h, dtype=np.float32)[:, None] + 0.5) * np.float32(mpp) - np.float32(y_um)
    x = (np.arange(window.x, window.x + window.w, dtype=np.float32)[None, :] + 0.5) * np.float32(mpp) - np.float32(x_um)
    return np.float32(np.cos(turn)) * y - np.float32(np.sin(turn)) * x


def _scale(canvas: Canvas, factor: F32) -> None:
    """Multiply the whole section by a factor: thinner, thicker, gone."""
    for layer in (canvas.h, canvas.e, canvas.n):
        layer *= factor
    if canvas.ink is not None:
        canvas.ink *= factor[:, :, None]


def _darken(canvas: Canvas, part: Window, amount: F32) -> None:
    """Add grey optical density."""
    if canvas.ink is None:
        canvas.ink = np.zeros((*canvas.h.shape, 3), np.float32)
    canvas.ink[part.within(canvas.window)] += amount[:, :, None]


def _blur(canvas: Canvas, part: Window, amount: F32) -> None:
    if canvas.defocus is None:
        canvas.defocus = np.zeros(canvas.h.shape, np.float32)
    cut = part.within(canvas.window)
    canvas.defocus[cut] = np.maximum(canvas.defocus[cut], amount)


def _label(canvas: Canvas, part: Window, inside: np.ndarray, kind: str) -> None:
    """Label an artefact that lies on the section, without covering a lesion or confounder."""
    free = canvas.label[part.within(canvas.window)] == 0
    canvas.mark(part, inside & free, ARTEFACTS[kind])


def _reach(canvas: Canvas, mark: Mark, mpp: float, more_um: float) -> Window | None:
    r = int((mark.long_um + more_um) / mpp) + 2
    return Window(int(mark.y_um / mpp) - r, int(mark.x_um / mpp) - r, 2 * r, 2 * r).meet(canvas.window)


def _bubble(canvas: Canvas, mark: Mark, seed: int, mpp: float) -> None:
    part = _reach(canvas, mark, mpp, 40)
    if part is None:
        return
    q = _across(part, mpp, mark.turn, mark.y_um, mark.x_um)
    p = _across(part, mpp, mark.turn - np.pi / 2, mark.y_um, mark.x_um)
    squeezed = p * np.float32(mark.wide_um / mark.long_um)
    inside = np.float32(mark.wide_um) - np.sqrt(squeezed * squeezed + q * q)
    inside += 4 * noise(seed + 4, part, power_of_two(120 / mpp), 2)
    ring = np.exp(-((inside - 6) ** 2) * np.float32(1 / 40)) + 0.4 * np.exp(-((inside - 18) ** 2) * np.float32(1 / 60))
    light = np.exp(-((inside + 5) ** 2) * np.float32(1 / 25))
    _darken(canvas, part, np.float32(mark.strength) * (0.8 * ring - 0.12 * light) + 0.03 * ramp(inside, 0, 6))
    _blur(canvas, part, 0.9 * ramp(inside, -2, 8))
    _label(canvas, part, np.asarray(inside > 0), "bubble")


def _dust(canvas: Canvas, mark: Mark, seed: int, mpp: float) -> None:
    part = _reach(canvas, mark, mpp, 10)
    if part is None:
        return
    q = _across(part, mpp, mark.turn, mark.y_um, mark.x_um)
    p = _across(part, mpp, mark.turn - np.pi / 2, mark.y_um, mark.x_um)
    rough = noise(seed + 5, part, power_of_two(4 / mpp), 2)
    if mark.long_um > 4 * mark.wide_um:  # a thread
        q = q + np.float32(mark.bend * 0.3) * (p * p / np.float32(mark.long_um) - np.float32(0.3 * mark.long_um))
        inside = np.minimum(np.float32(mark.wide_um) - np.abs(q), np.float32(mark.long_um) - np.abs(p)) + 0.4 * rough
    else:
        squeezed = p * np.float32(mark.wide_um / mark.long_um)
        inside = np.float32(mark.wide_um) * (1 + 0.3 * rough) - np.sqrt(squeezed * squeezed + q * q)
    alpha = ramp(inside, -1.2, 1.2)
    _darken(canvas, part, np.float32(1.3 * mark.strength) * alpha)
    _label(canvas, part, alpha >= 0.5, "dust")


def _knife_line(canvas: Canvas, mark: Mark, seed: int, mpp: float) -> None:
    whole = canvas.window
    q = np.abs(_across(whole, mpp, mark.turn, mark.y_um, mark.x_um))
    if float(q.min()) > 20:
        return
    wide = np.float32(mark.wide_um) * (1 + 0.7 * noise(seed + 6, whole, power_of_two(60 / mpp), 2))
    gone = ramp(q - wide, 1.0, -1.0)
    _scale(canvas, 1 - np.float32(min(1.0, mark.strength)) * gone)
    _label(canvas, whole, gone >= 0.5, "knife_line")


def _cover_edge(canvas: Canvas, mark: Mark, seed: int, mpp: float) -> None:
    whole = canvas.window
    q = _across(whole, mpp, mark.turn, mark.y_um, mark.x_um)
    if float(q.max()) < -60:
        return
    q = q + 3 * noise(seed + 7, whole, power_of_two(250 / mpp), 2)
    line = np.exp(-((q * np.float32(1 / 5)) ** 2)) + 0.4 * np.exp(-(((q - 22) * np.float32(1 / 4)) ** 2))
    beyond = ramp(q, 0, 8)
    _darken(canvas, whole, np.float32(0.7 * mark.strength) * line + np.float32(0.06 * mark.strength) * beyond)
    _blur(canvas, whole, beyond)
    _label(canvas, whole, beyond >= 0.5, "cover_edge")


def _stripes(canvas: Canvas, seed: int, width_px: float, strength: float, upright: float) -> None:
    """Shift the brightness of every scanned stripe a little."""
    window = canvas.window
    first, count = (window.x, window.w) if upright else (window.y, window.h)
    number = np.floor(np.arange(first, first + count) / int(width_px)).astype(np.int64)
    level = (hashed(seed + 8, number, np.zeros(1, np.int64))[:, 0] - np.float32(0.5)) * np.float32(2 * strength)
    amount = level[None, :] if upright else level[:, None]
    _darken(canvas, window, np.broadcast_to(amount, (window.h, window.w)))


_PAINTERS = {"bubble": _bubble, "dust": _dust, "knife_line": _knife_line, "cover_edge": _cover_edge}
