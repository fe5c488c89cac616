"""Disturbances that put something on a slide or take tissue away: pen, glass, cut edges, crumbs, foreign tissue."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from histo.phantom.foreign import INK_OD
from histo.stress.picture import F32, GLASS, Picture, density, glass_of, light, tissue_of

Rng = np.random.Generator


def pen(picture: Picture, rng: Rng, *, colour: str) -> Picture:
    """Draw a stroke of felt pen across the tissue, about 0.25 mm wide, and a dot beside it."""
    height, width = picture.rgb.shape[:2]
    t = np.linspace(0, 1, 60)
    turn, bend = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25)
    along, across = (t - 0.5) * 0.9, bend * np.sin(np.pi * t)
    x = (0.5 + along * np.cos(turn) - across * np.sin(turn)) * width
    y = (0.5 + along * np.sin(turn) + across * np.cos(turn)) * height
    stroke = np.zeros((height, width), np.uint8)
    line = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(stroke, [line], False, 255, max(2, round(picture.px(250))), cv2.LINE_AA)
    spot = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height))
    cv2.circle(stroke, spot, round(picture.px(120)), 255, -1, cv2.LINE_AA)
    cover = cv2.GaussianBlur(stroke, (0, 0), max(1.0, picture.px(6))).astype(np.float32) / 255
    cover *= 0.75 + 0.25 * _smooth_noise(rng, (height, width), picture.px(30))
    od = density(picture.rgb, picture.stain.white) + cover[..., None] * np.array(INK_OD[colour], np.float32)
    return replace(picture, rgb=light(np.asarray(od, np.float32), picture.stain.white))


def glass(picture: Picture, rng: Rng, *, dust: int = 0) -> Picture:
    """Leave bare glass with the scanner's noise, and as many grains and threads of dust as asked."""
    height, width = picture.rgb.shape[:2]
    od = np.zeros((height, width), np.float32)
    for k in range(dust):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        size = picture.px(float(np.exp(rng.uniform(np.log(3), np.log(14)))))
        dark = float(rng.uniform(0.3, 1.2))
        if k % 6 == 5:
            turn, length = rng.uniform(0, np.pi), picture.px(float(rng.uniform(60, 300)))
            end = (int(x + length * np.cos(turn)), int(y + length * np.sin(turn)))
            cv2.line(od, (x, y), end, dark, max(1, round(picture.px(2))), cv2.LINE_AA)
        else:
            axes = (max(1, round(size)), max(1, round(size * rng.uniform(0.4, 1.0))))
            cv2.ellipse(od, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, dark, -1, cv2.LINE_AA)
    grain = rng.standard_normal((height, width, 3), np.float32)
    level = np.exp(-cv2.GaussianBlur(od, (0, 0), 1.0))[..., None] * np.float32(GLASS) + grain
    return replace(picture, rgb=np.clip(level + 0.5, 0, 255).astype(np.uint8))


def edge_cut(picture: Picture, rng: Rng) -> Picture:
    """Crop the slide so that its border runs through the middle of the tissue on one side."""
    rows, columns = (np.flatnonzero(tissue_of(picture).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return picture
    middle = (int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2)
    cuts = (np.s_[middle[0] :], np.s_[: middle[0]], np.s_[:, middle[1] :], np.s_[:, : middle[1]])
    return replace(picture, rgb=np.ascontiguousarray(picture.rgb[cuts[int(rng.integers(4))]]))


def crumb(picture: Picture, rng: Rng, *, mm2: float) -> Picture:
    """Leave one ragged crumb of the tissue, of about an area, and glass around it."""
    inside = tissue_of(picture)
    height, width = inside.shape
    away = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(away.argmax()), away.shape)
    radius = picture.px(1e3 * float(np.sqrt(mm2 / np.pi)))
    yy, xx = np.ogrid[:height, :width]
    reach = radius * (1 + 0.15 * _smooth_noise(rng, (height, width), radius / 2))
    keep = (np.hypot(yy - y, xx - x) < reach) & inside
    return replace(picture, rgb=np.where(keep[..., None], picture.rgb, np.array(glass_of(picture)).astype(np.uint8)))


def white_holes(picture: Picture, rng: Rng, *, per_mm2: float) -> Picture:
    """Strew white ellipses of the size of lacunae (8 to 16 µm) over the tissue, in patches: collagen with holes."""
    inside = tissue_of(picture)
    height, width = inside.shape
    patchy = _smooth_noise(rng, (height, width), picture.px(250)) > 0
    holes = np.zeros((height, width), np.uint8)
    count = int(per_mm2 * height * width * picture.mpp**2 * 1e-6)
    for x, y, turn, luck in zip(*(rng.random((4, count)) * [[width], [height], [180], [1]]), strict=True):
        if inside[int(y), int(x)] and patchy[int(y), int(x)]:
            axes = (round(picture.px(4 + 4 * luck)), round(picture.px(2 + 2 * luck)))
            cv2.ellipse(holes, (int(x), int(y)), axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
    cover = holes.astype(np.float32)[..., None] / 255
    return replace(
        picture, rgb=(picture.rgb * (1 - cover) + np.array(glass_of(picture)) * cover + 0.5).astype(np.uint8)
    )


def unseen(picture: Picture, rng: Rng, *, tissue: str) -> Picture:
    """Paint tissue that no phantom holds over two thirds of the specimen: `fat_necrosis` or `tumour_nests`."""
    inside = tissue_of(picture)
    shape = (inside.shape[0], inside.shape[1])
    h, e = _UNSEEN[tissue](picture, rng, shape)
    own = picture.basis
    od = (h[..., None] * np.float32(1.6) * own[0] + e[..., None] * np.float32(1.15) * own[1]).astype(np.float32)
    there = (_smooth_noise(rng, shape, picture.px(300)) > -0.45) & inside
    cover = cv2.GaussianBlur(there.astype(np.float32), (0, 0), picture.px(4))[..., None]
    mixed = density(picture.rgb, picture.stain.white) * (1 - cover) + od * cover
    rgb = cv2.GaussianBlur(light(np.asarray(mixed, np.float32), picture.stain.white), (0, 0), max(0.3, picture.px(0.3)))
    return replace(picture, rgb=np.asarray(rgb, np.uint8))


def _fat_necrosis(picture: Picture, rng: Rng, shape: tuple[int, int]) -> tuple[F32, F32]:
    """Ghosts of fat cells (40 to 90 µm) with thick granular walls, debris between them: (haematoxylin, eosin)."""
    gap, luck = _mosaic(picture, rng, shape, 62.0)
    grain = _smooth_noise(rng, shape, picture.px(2.5))
    wall = np.clip((14 + 6 * luck - gap) / 4, 0, 1)
    ghost = 0.12 + 0.2 * (luck > 0.6) * (1 + 0.4 * grain)
    debris = wall * np.clip(grain - 1.5, 0, 1)
    return (0.08 * wall + 0.9 * debris).astype(np.float32), (ghost + 0.55 * wall * (1 + 0.35 * grain)).astype(
        np.float32
    )


def _tumour_nests(picture: Picture, rng: Rng, shape: tuple[int, int]) -> tuple[F32, F32]:
    """Islands of cells with large uneven nuclei in a pale stroma: (haematoxylin, eosin)."""
    gap, luck = _mosaic(picture, rng, shape, 15.0)
    nest = np.clip(3 * _smooth_noise(rng, shape, picture.px(110)) + 0.6, 0, 1)
    grain = _smooth_noise(rng, shape, picture.px(1.5))
    nucleus = np.clip((gap - 1.5 - 2 * luck) / 1.0, 0, 1)
    chromatin = (0.5 + 0.6 * luck) * (1 + 0.35 * grain)
    return (nest * (0.1 + nucleus * chromatin)).astype(np.float32), (0.25 + 0.3 * nest * (1 - nucleus)).astype(
        np.float32
    )


_UNSEEN: Final[dict[str, Callable[[Picture, Rng, tuple[int, int]], tuple[F32, F32]]]] = {
    "fat_necrosis": _fat_necrosis,
    "tumour_nests": _tumour_nests,
}


def _mosaic(picture: Picture, rng: Rng, shape: tuple[int, int], cell_um: float) -> tuple[F32, F32]:
    """Return the distance to the border of a mosaic's cells in µm, and a number 0 to 1 a cell."""
    step = picture.px(cell_um)
    rows, columns = (int(np.ceil(n / step)) for n in shape)
    j, i = np.mgrid[:rows, :columns]
    seeds = (np.stack([j, i], axis=-1) + rng.uniform(0.1, 0.9, (rows, columns, 2))) * step
    points = np.clip(seeds.reshape(-1, 2).astype(int), 0, np.array(shape) - 1)
    image = np.ones(shape, np.uint8)
    image[points[:, 0], points[:, 1]] = 0
    _, labels = cv2.distanceTransformWithLabels(image, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    borders = np.ones(shape, np.uint8)
    borders[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    borders[1:][labels[1:] != labels[:-1]] = 0
    gap = cv2.distanceTransform(borders, cv2.DIST_L2, 5) * picture.mpp
    luck = rng.random(int(labels.max()) + 1).astype(np.float32)
    return np.asarray(gap, np.float32), luck[labels]


def _smooth_noise(rng: Rng, shape: tuple[int, int], scale_px: float) -> NDArray[np.float32]:
    """Return noise (H, W) of about unit variance whose bumps are `scale_px` wide."""
    step = max(1.0, scale_px)
    small = rng.standard_normal((int(shape[0] / step) + 3, int(shape[1] / step) + 3), np.float32)
    large = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large * np.float32(1.3 if step > 1 else 1.0), np.float32)
