"""Painting the slide chunk by chunk: base tissue, confounders, lesions, then stain and scanner."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.phantom.adnexa import paint_adnexa
from histo.phantom.artefact_paint import paint_artefacts
from histo.phantom.bone import BONE
from histo.phantom.bone_paint import paint_bone
from histo.phantom.calcium import CALCIUM, paint_calcium
from histo.phantom.canvas import Canvas
from histo.phantom.confounder_paint import paint_confounder
from histo.phantom.noise import Window, enlarge
from histo.phantom.recipe import Stain
from histo.phantom.region import Region
from histo.phantom.scene import Scene
from histo.phantom.skin import paint_skin
from histo.phantom.stain import HALO_PX, develop

MASK_DOWN = 2  # a mask cell covers this many level-0 px on a side
_PAINTERS = {CALCIUM: paint_calcium, BONE: paint_bone}
_THREADS = 4  # more gain little: what the chunks share is memory bandwidth


def render(
    scene: Scene, regions: list[Region], stain: Stain, chunk_px: int = 1024, threads: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return RGB pixels (H, W, 3) and the truth (ceil(H / 2), ceil(W / 2)); chunks and threads are invisible in both.

    `chunk_px` must be even; `threads` defaults to what OpenCV may use, so that a worker process that was given one
    core keeps to it.
    """
    height, width = scene.frame.size_px
    image = np.empty((height, width, 3), np.uint8)
    truth = np.zeros((-(-height // MASK_DOWN), -(-width // MASK_DOWN)), np.uint8)

    def fill(inner: Window) -> None:
        pixels, label = paint_window(scene, regions, stain, inner)
        image[inner.y : inner.y + inner.h, inner.x : inner.x + inner.w] = pixels
        top, left = inner.y // MASK_DOWN, inner.x // MASK_DOWN
        # Every second pixel: classes must not be averaged.
        label = label[::MASK_DOWN, ::MASK_DOWN]
        truth[top : top + label.shape[0], left : left + label.shape[1]] = label

    windows = [
        Window(y, x, min(chunk_px, height - y), min(chunk_px, width - x))
        for y in range(0, height, chunk_px)
        for x in range(0, width, chunk_px)
    ]
    count = threads or min(_THREADS, cv2.getNumThreads(), os.cpu_count() or 1)
    with ThreadPoolExecutor(max(1, count)) as pool:
        list(pool.map(fill, windows))
    return image, tidy(truth, scene.frame.mpp * MASK_DOWN)


def paint_window(
    scene: Scene, regions: list[Region], stain: Stain, inner: Window
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return RGB pixels (h, w, 3) and labels (h, w) of one rectangle of level-0 px, as they are on the whole slide."""
    padded = Window(inner.y - HALO_PX, inner.x - HALO_PX, inner.h + 2 * HALO_PX, inner.w + 2 * HALO_PX)
    canvas = Canvas(padded)
    paint_skin(canvas, scene)
    paint_adnexa(canvas, scene)
    for region in regions:
        _PAINTERS.get(region.label, paint_confounder)(canvas, region, scene)
    paint_artefacts(canvas, scene.artefacts, scene.frame)
    thickness = enlarge(scene.layout.thickness, padded, scene.frame.factor)
    pixels = develop(canvas, thickness, stain, scene.frame.mpp, scene.seed + 99)
    cut = inner.within(padded)
    return pixels[cut], canvas.label[cut]


def tidy(truth: NDArray[np.uint8], cell_um: float) -> NDArray[np.uint8]:
    """Close gaps of a few µm inside calcium, as a person who outlines it would, and drop crumbs below 60 µm²."""
    calcium = (truth == CALCIUM).astype(np.uint8)
    if not calcium.any() and not (truth == BONE).any():
        return truth
    side = 2 * max(1, round(4 / cell_um)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(calcium, cv2.MORPH_CLOSE, kernel)
    truth = np.where((closed > 0) & (truth != BONE), CALCIUM, truth).astype(np.uint8)
    for label in (CALCIUM, BONE):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((truth == label).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] * cell_um**2 < 60
        small[0] = False
        truth[small[parts]] = 0
    return truth
