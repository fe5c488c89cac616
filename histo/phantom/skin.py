"""The base tissue of every slide: specimen, dermis, epidermis, fat, and its nuclei."""

import numpy as np

from histo.phantom.canvas import Canvas
from histo.phantom.collagen import Fibres, collagen
from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32, cells, enlarge, layers, noise, power_of_two, ramp
from histo.phantom.nuclei import Stamps, choose, join, keep, lattice, look_up, put, stamps_at
from histo.phantom.recipe import Tissue, new_seed
from histo.phantom.scene import Scene

_SPACING_UM = 7.6


def _edge(scene: Scene, canvas: Canvas, tissue: F32) -> F32:
    """Return the specimen's opacity with a torn, fibrous border."""
    step = power_of_two(8 / scene.frame.mpp)
    return ramp(tissue + 3 * noise(scene.seed + 1, canvas.window, step, 2), -1.2, 1.2)


def paint_skin(canvas: Canvas, scene: Scene) -> None:
    """Paint the base tissue of a chunk; glass stays untouched."""
    layout, mpp = scene.layout, scene.frame.mpp
    window, factor = canvas.window, scene.frame.factor
    tissue = enlarge(layout.tissue, window, factor)
    if float(tissue.max()) < -40:
        return
    alpha = _edge(scene, canvas, tissue)
    e, h = collagen(scene.fibres, scene.tissue, window, factor, mpp)
    fat = enlarge(layout.fat, window, factor)
    if float(fat.max()) > 0:
        pattern = cells(scene.seed + 2, window, 75 / mpp, step=4, warp_px=12 / mpp)
        wall = np.exp(-((pattern.gap_px * np.float32(mpp / 3.2)) ** 2))
        wall *= 0.55 + 0.2 * noise(scene.seed + 3, window, power_of_two(4 / mpp), 2)
        e += fat * (wall * 0.7 - e)
        h *= 1 - fat
    epidermis = enlarge(layout.epidermis, window, factor)
    if float(epidermis.max()) > -10:
        _paint_epidermis(canvas, scene, e, h, epidermis)
    # Roughness in optical density that is coarser than the fibres' own.
    rough = 1 + np.float32(scene.tissue.roughness[1]) * noise(scene.seed + 4, window, power_of_two(4 / mpp))
    rough += np.float32(scene.tissue.roughness[2]) * noise(scene.seed + 5, window, power_of_two(12 / mpp), 2)
    rough *= alpha
    canvas.h += h * rough
    canvas.e += e * rough
    nuclei = np.zeros_like(alpha)
    put(nuclei, window, scene.nuclei, scene.bank)
    canvas.n += nuclei * alpha


def _paint_epidermis(canvas: Canvas, scene: Scene, e: F32, h: F32, inside: F32) -> None:
    """Blend living and horny layer into the chunk's eosin and haematoxylin."""
    frame, window = scene.frame, canvas.window
    mpp = frame.mpp
    depth = enlarge(scene.layout.depth, window, frame.factor)
    body = ramp(inside, -2, 2)
    grain = noise(scene.seed + 6, window, power_of_two(4 / mpp), 2)
    cell = cells(scene.seed + 8, window, 11 / mpp, 2, 1.5 / mpp)
    rim = ramp(cell.gap_px, 2.0 / mpp, 0.0)
    basal = np.exp(-np.maximum(inside, 0) * np.float32(1 / 12))
    living = 0.93 + 0.14 * cell.mark + 0.07 * grain - 0.2 * rim * (1 - basal)
    e += body * (0.55 * living - e)
    h += body * ((0.24 + 0.16 * basal) * living - h)
    horn_um = np.float32(8 + 0.25 * scene.layout.epidermis_um)
    horn = ramp(depth + 1.5 * grain, float(horn_um) + 1.5, float(horn_um) - 1.5)
    wave = noise(scene.seed + 7, window, power_of_two(24 / mpp), 4)
    sheets = layers(scene.seed + 9, depth + 4 * wave, 2.2)
    # Towards the surface the sheets part and flake.
    loose = 1.2 - 1.5 * np.clip(1 - depth / horn_um, 0, 1)
    gaps = ramp(layers(scene.seed + 10, depth + 5 * wave, 4.0) + 0.5 * wave, loose, loose + 0.5)
    e += horn * (np.clip(0.8 + 0.22 * sheets, 0.2, 1.4) * (1 - 0.95 * gaps) - e)
    h += horn * ((0.1 + 0.06 * sheets) * (1 - gaps) - h)


def place_nuclei(rng: np.random.Generator, frame: Frame, layout: Layout, tissue: Tissue, fibres: Fibres) -> Stamps:
    """Place the nuclei of dermis, epidermis and inflammation for the whole slide."""
    extent = (0.0, 0.0, frame.size_px[0] * frame.mpp, frame.size_px[1] * frame.mpp)
    spots = lattice(new_seed(rng), extent, _SPACING_UM)
    spots = keep(spots, look_up(layout.tissue, spots, frame) > 0)
    area_mm2 = (_SPACING_UM * 1e-3) ** 2
    inside = look_up(layout.epidermis, spots, frame)
    depth = look_up(layout.depth, spots, frame)
    skin = inside > 1
    horn = depth < 10 + 0.25 * layout.epidermis_um
    fat = look_up(layout.fat, spots, frame)
    dermis = ~skin & ~horn
    fibre = tissue.fibroblasts_mm2 * (1 - 0.9 * fat) * (1 + 2 * look_up(layout.papillary, spots, frame))
    fibre *= np.clip(1 + 0.7 * look_up(frame.field(new_seed(rng), 130, 2), spots, frame), 0.05, 3)
    immune = (25 + look_up(layout.inflammation, spots, frame)) * (1 - 0.8 * fat)
    luck, second, third, fourth = spots.luck
    parts = []
    course, border_um = fibres.course(spots, layout, tissue)
    along = course + 0.5 * (second - 0.5)
    # Fibroblasts lie between bundles.
    fibre *= np.where(border_um < 2.5, 1.9, 0.35)
    for name, chosen, angle in (
        ("epithelial", skin & ~horn & (luck < np.where(inside < 12, 0.85, 0.42)), along * 0 + layout.angle + 1.57),
        ("fibroblast", dermis & (luck < fibre * area_mm2), along),
        (
            "lymphocyte",
            dermis & (luck >= fibre * area_mm2) & (luck < (fibre + immune) * area_mm2),
            np.pi * second,
        ),
    ):
        here = keep(spots, chosen)
        index = choose(name, np.asarray(angle[chosen], np.float32), third[chosen])
        parts.append(stamps_at(here, index, (0.3 if name == "fibroblast" else 0.45) + 0.45 * fourth[chosen], frame.mpp))
    return join(parts)
