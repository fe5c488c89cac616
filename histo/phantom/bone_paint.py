"""Painting bone: marrow and canals, matrix with lamellae and lacunae, what fell out, cells on its surface."""

import cv2
import numpy as np

from histo.phantom.bone import AROUND_UM, BONE, TABLE, TABLE_UM
from histo.phantom.canvas import Canvas
from histo.phantom.layout import Frame
from histo.phantom.noise import F32, Window, cells, enlarge, layers, noise, power_of_two, ramp
from histo.phantom.nuclei import put
from histo.phantom.region import Region
from histo.phantom.scene import Scene


def paint_bone(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint marrow and canals, then the matrix with its lacunae; label matrix, lacunae and small canals."""
    frame, n = scene.frame, region.number
    part = region.part(frame, canvas.window, AROUND_UM, region.maps["outer"])
    if part is None:
        return
    mpp = frame.mpp
    outer = region.read(region.maps["outer"], part, frame)
    ragged = 1.6 * noise(region.seed + 2, part, power_of_two(20 / mpp), 5)
    sdf = region.read(region.sdf_um, part, frame) + ragged
    _paint_periosteum(canvas, region, part, scene, outer + ragged)
    _paint_spaces(canvas, region, part, scene, outer + ragged, sdf)
    alpha = ramp(sdf, -n("edge_um"), n("edge_um"))
    label = ramp(region.read(region.maps["label"], part, frame) + ragged, -n("edge_um"), n("edge_um"))
    if n("drop_out") < 9:  # fragments fell out of the section and left holes
        torn = noise(region.seed + 14, part, power_of_two(120 / mpp), 3)
        lost = ramp(torn, n("drop_out"), n("drop_out") + 0.05) * ramp(sdf, -1, 3)
        canvas.paint(part, lost, 0.0, 0.0)
        alpha, label = alpha * (1 - lost), label * (1 - lost)
    h, e = _matrix(region, part, frame, sdf)
    gap = np.zeros_like(e)
    put(gap, part, region.stamps["lacunae"], scene.bank)
    gap = np.clip(gap, 0, 1)
    lip = 1 + 0.7 * np.clip(cv2.GaussianBlur(gap, (0, 0), 1.1 / mpp) - gap, 0, 0.5)
    e *= lip * (1 - 0.85 * gap)
    h *= 1 - 0.85 * gap
    canvas.paint(part, alpha, h, e)
    if "giants" in region.maps:
        _paint_osteoclasts(canvas, region, part, scene, sdf)
    cell = np.zeros_like(e)
    put(cell, part, region.stamps["osteocytes"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], cell * alpha)
    canvas.mark(part, label >= 0.5, BONE)


def _matrix(region: Region, part: Window, frame: Frame, sdf: F32) -> tuple[F32, F32]:
    """Return haematoxylin and eosin of the matrix: lamellae, streaks, mottling, cement lines, calcified front."""
    mpp, n = frame.mpp, region.number
    phase = region.read(region.maps["phase"], part, frame)
    phase += 0.9 * noise(region.seed + 3, part, power_of_two(32 / mpp), 3)
    where = (phase * np.float32(1 / TABLE_UM)).astype(np.int32) % TABLE
    lamella = np.take(region.maps["table"][0], where)
    # Finer streaks run along the lamellae and break off.
    fading = noise(region.seed + 13, part, power_of_two(24 / mpp), 2)
    lamella += np.float32(n("streaks")) * np.take(region.maps["table"][0], (where * 3 + 1701) % TABLE) * fading
    fades = 0.8 + 0.5 * noise(region.seed + 4, part, power_of_two(60 / mpp), 4)
    strength = np.float32(n("lamella")) * np.clip(fades, 0.02, 2.2)
    e = 1 + strength * lamella
    e += np.float32(n("mottle")) * noise(region.seed + 5, part, power_of_two(130 / mpp), 4)
    e += np.float32(n("grain")) * noise(region.seed + 6, part, power_of_two(1.5 / mpp), 1)
    # The matrix is made of fibrils: fine broken lines along the lamellae, never an even surface.
    broken = noise(region.seed + 20, part, power_of_two(7 / mpp), 3)
    e += np.float32(n("fibril")) * broken * layers(region.seed + 21, phase + 0.7 * broken, 1.1)
    e += _slits(region, part, mpp, phase)
    if n("chatter"):
        rows = np.arange(part.y, part.y + part.h, dtype=np.float32)[:, None] * np.float32(mpp / 22)
        e += np.float32(n("chatter")) * np.sin(rows + 0.5 * noise(region.seed + 7, part, power_of_two(260 / mpp)))
    line = np.exp(-((region.read(region.maps["cement"], part, frame) / 1.6) ** 2)) * np.float32(n("cement"))
    patchy = np.clip(1 + 0.6 * noise(region.seed + 8, part, power_of_two(200 / mpp), 5), 0.05, 1.7)
    h = np.float32(n("h")) * patchy * (1 + 0.5 * strength * lamella) + line
    e = np.float32(n("e")) * np.clip(e, 0.2, 1.8)
    if n("front_um"):
        h = h + np.float32(n("front_h")) * np.exp(-np.maximum(sdf, 0) * np.float32(1 / n("front_um")))
    return np.asarray(h, np.float32), np.asarray(e, np.float32)


def _paint_periosteum(canvas: Canvas, region: Region, part: Window, scene: Scene, outer: F32) -> None:
    """Paint the gap around a detached piece and its fibrous sleeve, whose sheets part here and there."""
    mpp, width = scene.frame.mpp, region.number("periosteum_um")
    if region.number("detached_um"):  # it lies in a hole of its own
        hole = ramp(outer, -region.number("detached_um"), -region.number("detached_um") + 2)
        canvas.paint(part, hole, 0.0, 0.0, nuclei=0.0)
    if not width:
        return
    slow = noise(region.seed + 17, part, power_of_two(40 / mpp), 3)
    fibres = layers(region.seed + 18, outer + 3 * slow, 2.2)
    clefts = ramp(layers(region.seed + 19, outer + 4 * slow, 6.0) + 0.8 * slow, 1.5, 2.0)
    tissue = ramp(enlarge(scene.layout.tissue, part, scene.frame.factor), -1, 2)
    if region.number("detached_um"):
        width *= 0.4
    shell = ramp(outer + 4 * slow, -width - 3, -width + 3) * ramp(outer, 2, 0) * tissue
    canvas.paint(part, shell, 0.06 * (1 - clefts), (0.55 + 0.14 * fibres) * (1 - 0.95 * clefts), nuclei=0.6)


def _slits(region: Region, part: Window, mpp: float, phase: F32) -> F32:
    """Return fine splits along the lamellae, pale with a dark lip: where sheets came apart in cutting."""
    n = region.number
    if not n("splits"):
        return np.zeros_like(phase)
    line = layers(region.seed + 15, phase, 9.0)
    there = ramp(noise(region.seed + 16, part, power_of_two(64 / mpp), 3), 1.5 - n("splits"), 2.2 - n("splits"))
    near = np.exp(-((line * 9) ** 2)) * there
    lip = np.exp(-(((line - 0.22) * 9) ** 2)) * there
    return np.asarray(0.12 * lip - 0.22 * near, np.float32)


def _paint_osteoclasts(canvas: Canvas, region: Region, part: Window, scene: Scene, sdf: F32) -> None:
    """Paint giant cells that lie on the surface, outside the matrix."""
    bodies = region.read(region.maps["giants"], part, scene.frame)
    body = ramp(bodies, -1.5, 1.5) * ramp(sdf, 1, -1)
    canvas.paint(part, 0.9 * body, 0.12, 0.6)
    nuclei = np.zeros_like(sdf)
    put(nuclei, part, region.stamps["giants"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * body)


def _paint_spaces(canvas: Canvas, region: Region, part: Window, scene: Scene, outer: F32, sdf: F32) -> None:
    """Fill canals and marrow with loose tissue, fat holes, red cells and nuclei; leave a retraction gap."""
    mpp, n = scene.frame.mpp, region.number
    inside = ramp(outer, -1, 1)
    web = np.float32(1) - np.abs(noise(region.seed + 9, part, power_of_two(9 / mpp), 3))
    patch = noise(region.seed + 10, part, power_of_two(64 / mpp), 2)
    body = ramp(patch, 0.9 - 1.6 * n("marrow"), 2.0 - 1.6 * n("marrow"))
    if n("retraction_um"):
        body *= ramp(-sdf + 6 * patch, n("retraction_um"), n("retraction_um") + 6)
    lining = np.exp(-(((sdf + 3) / 2) ** 2)) * np.float32(0.4 * n("lining"))
    body = np.maximum(body, lining)
    disc = cells(region.seed + 11, part, 6.5 / mpp, 2, 1 / mpp)
    red = ramp(patch + 0.3 * web, 1.7, 1.9) * ramp(disc.gap_px, -0.5, 2.0 / mpp)
    # A loose net of fine strands, denser in places.
    net = ramp(web + np.float32(0.35) * body, 0.85, 1.15)
    body = body * (0.15 + 0.85 * net)
    e = body * np.clip(0.25 + 0.35 * net, 0.02, 0.9) + red * 0.9
    if region.numbers["fatty"]:
        fat = cells(region.seed + 12, part, 70 / mpp, step=4, warp_px=10 / mpp)
        wall = np.exp(-((fat.gap_px * np.float32(mpp / 3)) ** 2))
        e = np.where(fat.mark < 0.8, 0.45 * wall, e).astype(np.float32)
        body = np.where(fat.mark < 0.8, 0.3 * wall, body).astype(np.float32)
    if n("osteoid_um"):  # a paler seam of young matrix along the surface
        seam = ramp(-sdf, n("osteoid_um") + 1, n("osteoid_um")) * ramp(patch, -0.3, 0.3)
        e += seam * (0.5 * np.float32(n("e")) - e)
        body = np.maximum(body, seam)
    canvas.paint(part, inside, body * 0.08, e)
    nuclei = np.zeros_like(e)
    put(nuclei, part, region.stamps["nuclei"], scene.bank)
    cut = part.within(canvas.window)
    canvas.n[cut] = np.maximum(canvas.n[cut], nuclei * inside * np.minimum(1, 2.5 * body))
