"""Where things are on the slide: specimen, depth below the surface, epidermis, fat, inflammation.

All maps hold one value per grid cell of about 4 µm (`factor` level-0 pixels) and lengths in µm.
"""

from dataclasses import dataclass

import numpy as np

from histo.phantom.noise import F32, Window, noise, power_of_two, ramp
from histo.phantom.recipe import Tissue, new_seed, stream

GRID_UM = 4.0
NO_SURFACE_UM = 5000.0


@dataclass(frozen=True, eq=False)
class Frame:
    """Size (height, width) in level-0 px, scale, pixels per grid cell and grid shape."""

    size_px: tuple[int, int]
    mpp: float
    factor: int
    shape: tuple[int, int]

    @property
    def cell_um(self) -> float:
        """Side of a grid cell in µm."""
        return self.factor * self.mpp

    def field(self, seed: int, scale_um: float, octaves: int = 1, origin: tuple[int, int] = (0, 0)) -> F32:
        """Return noise of a scale in µm on the whole grid."""
        return self.field_in(seed, Window(*origin, *self.shape), scale_um, octaves)

    def field_in(self, seed: int, cells: Window, scale_um: float, octaves: int = 1) -> F32:
        """Return noise of a scale in µm on a rectangle of grid cells."""
        return noise(seed, cells, power_of_two(scale_um / self.cell_um), octaves)


def frame_for(size_px: tuple[int, int], mpp: float) -> Frame:
    """Lay the grid over a slide of (width, height) level-0 px."""
    width, height = size_px
    factor = power_of_two(GRID_UM / mpp)
    return Frame((height, width), mpp, factor, (-(-height // factor), -(-width // factor)))


@dataclass(frozen=True, eq=False)
class Layout:
    """The maps of one slide, each of the grid's shape; distances are positive inside."""

    frame: Frame
    tissue: F32  # signed distance to the specimen's edge
    depth: F32  # below the skin surface; large where the fragment has none
    epidermis: F32  # signed distance
    papillary: F32  # 0..1
    fat: F32  # 0..1
    inflammation: F32  # lymphocytes per mm²
    thickness: F32  # factor on all optical densities
    angle: float  # of the skin surface, radians
    epidermis_um: float  # mean thickness, at most an eighth of the slide


def _fragments(rng: np.random.Generator, size_um: float) -> list[tuple[float, float, float, float]]:
    """Return centre (x, y) and half axes as shares of the slide, one row per fragment."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.6, 0.22, 0.1, 0.08]))
    if count == 1 or size_um < 1200:
        return [(0.5, 0.5, float(rng.uniform(0.3, 0.47)), float(rng.uniform(0.3, 0.47)))]
    spots = [(0.27, 0.27), (0.73, 0.73), (0.73, 0.27), (0.27, 0.73)][:count]
    return [(x, y, float(rng.uniform(0.15, 0.25)), float(rng.uniform(0.12, 0.22))) for x, y in spots]


def _epidermis(
    frame: Frame, tissue: Tissue, depth: F32, along: F32, size_um: float, mean_um: float, seeds: list[int]
) -> F32:
    """Return the signed distance of the epidermis: a layer of uneven thickness with rete ridges."""
    thick = mean_um * (1 + 0.3 * frame.field(seeds[0], 400))
    wave = np.sin(2 * np.pi * along / tissue.rete_period_um + 1.5 * frame.field(seeds[1], 250))
    ridges = min(tissue.rete_um, size_um / 10) * np.maximum(0, wave)
    return np.asarray(thick + ridges - depth + 5 * frame.field(seeds[2], 32), np.float32)


def lay_out(frame: Frame, tissue: Tissue, seed: int) -> Layout:
    """Draw the specimen and its layers."""
    rng = stream(seed, "layout")
    seeds = [new_seed(rng) for _ in range(12)]
    x = (np.arange(frame.shape[1], dtype=np.float32)[None, :] + 0.5) * frame.cell_um
    y = (np.arange(frame.shape[0], dtype=np.float32)[:, None] + 0.5) * frame.cell_um
    extent = np.array([frame.size_px[1], frame.size_px[0]]) * frame.mpp
    angle = float(rng.uniform(-np.pi, np.pi))
    size = float(extent.min())
    edge = min(110.0, 0.05 * size) * frame.field(seeds[0], 700) + 22 * frame.field(seeds[1], 130, 4)
    surface = min(60.0, 0.03 * size) * frame.field(seeds[2], 900) + 12 * frame.field(seeds[3], 130)
    inside = np.full(frame.shape, -1e4, np.float32)
    depth = np.full(frame.shape, NO_SURFACE_UM, np.float32)
    along = np.zeros(frame.shape, np.float32)
    power = float(rng.uniform(2.0, 5.0))
    for cx, cy, a, b in _fragments(rng, size):
        turn = angle + float(rng.normal(0, 0.1))
        has_surface = rng.random() < 0.7
        dx, dy = x - cx * extent[0], y - cy * extent[1]
        p, q = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
        a, b = a * size, b * size
        radius = (np.abs(p / a) ** power + np.abs(q / b) ** power) ** (1 / power)
        here = ((1 - radius) * min(a, b) + edge).astype(np.float32)
        # A fragment without a surface must not take over the depth of the one drawn before it.
        below = (q + 0.75 * b + surface).astype(np.float32) if has_surface else np.full_like(depth, NO_SURFACE_UM)
        if has_surface:
            here = np.minimum(here, below)
        depth = np.where(here > inside, below, depth)
        along = np.where(here > inside, p, along)
        inside = np.maximum(inside, here)
    epidermis_um = min(tissue.epidermis_um, size / 8)
    epidermis = _epidermis(frame, tissue, depth, along, size, epidermis_um, seeds[4:7])
    fat_from = float(rng.uniform(700, 2600))
    lobules = depth - fat_from + 350 * frame.field(seeds[7], 600) + 60 * frame.field(seeds[8], 120)
    if rng.random() < 0.25:  # a specimen without a surface is dermis only, or dermis and fat
        lobules = np.where(depth >= NO_SURFACE_UM, 160 * frame.field(seeds[7], 500, 2) - 60, lobules)
    else:
        lobules = np.where(depth >= NO_SURFACE_UM, -100.0, lobules)
    septa = np.abs(frame.field(seeds[9], 700)) * 350 - float(rng.uniform(20, 60))
    fat = ramp(np.minimum(lobules, septa).astype(np.float32), 0, 14)
    crowd = float(np.exp(rng.uniform(np.log(100), np.log(5000))))
    inflammation = crowd * ramp(frame.field(seeds[10], 130, 2), 1.2, 2.4)
    thickness = tissue.thickness * (1 + 0.06 * frame.field(seeds[11], 300) + 0.06 * frame.field(seeds[1], 1500))
    return Layout(
        frame,
        inside,
        depth,
        epidermis.astype(np.float32),
        np.exp(-np.maximum(0, -epidermis) / tissue.papillary_um).astype(np.float32),
        fat,
        inflammation,
        thickness.astype(np.float32),
        angle,
        epidermis_um,
    )
