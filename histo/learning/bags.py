"""The tiles of a training step: labelled ones from outlines, and bags of tiles from slides with a diagnosis only.

Everything follows from the seed, the epoch and what the network found before it, so that a resumed run draws the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.config import TrainConfig
from histo.data.labels import IGNORED, to_fractions
from histo.data.sampling import (
    Draw,
    DrawnTiles,
    LabelledSlide,
    choose_by_patient,
    draw_epoch,
    place_around,
)
from histo.data.transforms import Augment
from histo.errors import SlideFailed
from histo.geometry import round_px, tile_means

# Map cells (N, 2 as row, column) by slide: mistakes on labelled slides, strongest tiles of the others.
Cells = Mapping[int, NDArray[np.int64]]
StepSample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], int]
LABELLED = -1  # the slide number of a tile that has labels of its own


@dataclass(frozen=True)
class BagTile:
    """One tile of a bag: its slide, its first kept map cell (row, column), the seed of its augmentation."""

    slide: int
    cell_map_px: tuple[int, int]
    seed: int


@dataclass(frozen=True)
class Found:
    """What the network found on the training slides: its false positives (`hard`), the lesions that it `missed`, and
    `strong` tiles of unoutlined slides.

    `epoch` is the one before which it looked; -1 before the first look.
    """

    hard: Cells
    missed: Cells
    strong: Cells
    epoch: int = -1


def draw_steps(
    slides: Sequence[LabelledSlide], config: TrainConfig, epoch: int, found: Found, part: tuple[int, int] = (0, 1)
) -> list[list[Draw | BagTile]]:
    """Draw the steps of one epoch: `batch_size` labelled tiles each, then bags of `weak.bag_tiles` tiles of one slide.

    `part` (number, of how many) is the process's when several train together. Raises `UsageError` when no slide has
    any labelled tissue.
    """
    part_seed = config.seed + 7919 * part[0]
    count = config.data.tiles_per_epoch // part[1]
    labelled = draw_epoch(slides, count, config.data.lesion_share, part_seed, epoch)
    rng = np.random.default_rng([part_seed, epoch, 1])
    labelled = _with_mined(labelled, slides, config.mining.share, found, rng)
    size = config.optimiser.batch_size
    steps: list[list[Draw | BagTile]] = [list(labelled[i : i + size]) for i in range(0, count - size + 1, size)]
    weak = {
        s: tile_means(slide.tiles, slide.tissue)
        for s, slide in enumerate(slides)
        if slide.diagnosis_only and len(slide.tiles)
    }
    if not weak or config.loss.slide_weight == 0:
        return steps
    for step in steps:
        for _ in range(config.weak.bags_per_step):
            step += _draw_bag(slides, weak, config, found.strong, rng)
    return steps


def _with_mined(
    draws: Sequence[Draw], slides: Sequence[LabelledSlide], share: float, found: Found, rng: np.random.Generator
) -> list[Draw]:
    """Move `share` of the tiles to mistakes, those with and those without a lesion alike, patients in equal parts."""
    among = [[s for s, cells in mined.items() if len(cells)] for mined in (found.hard, found.missed)]
    moved = []
    for draw in draws:
        lesion = draw.class_index > 0
        if among[lesion] and rng.random() < share:
            s = choose_by_patient(slides, among[lesion], rng)
            row, column = rng.choice((found.missed if lesion else found.hard)[s])
            draw = Draw(s, place_around(slides[s], int(row), int(column), rng), draw.seed, draw.class_index)
        moved.append(draw)
    return moved


def _draw_bag(
    slides: Sequence[LabelledSlide],
    weak: Mapping[int, NDArray[np.float64]],
    config: TrainConfig,
    strong: Cells,
    rng: np.random.Generator,
) -> list[Draw | BagTile]:
    """Draw tiles of one slide: labels in equal parts, then patients; strongest tiles, and others by their tissue."""
    labels = sorted({slides[s].record.label for s in weak})
    label = labels[rng.integers(len(labels))]
    s = choose_by_patient(slides, [w for w in weak if slides[w].record.label == label], rng)
    every, best = slides[s].tiles.cells_map_px, strong.get(s, np.empty((0, 2), np.int64))
    size = config.weak.bag_tiles
    wanted = round_px(config.weak.strongest_share * size) if len(best) else 0
    chosen = [best[i] for i in _without_repeats(np.ones(len(best)), wanted, rng)]
    chosen += [every[i] for i in _without_repeats(weak[s], size - len(chosen), rng)]
    reach = slides[s].tiles.spec.kept_cells // 3
    bag: list[Draw | BagTile] = []
    for row, column in chosen:
        down, right = rng.integers(-reach, reach + 1, 2)
        bag.append(BagTile(s, (int(row + down), int(column + right)), int(rng.integers(2**31))))
    return bag


def _without_repeats(weights: NDArray[np.float64], wanted: int, rng: np.random.Generator) -> list[int]:
    """Return `wanted` indices drawn by weight, none of them twice before all were taken."""
    picks: list[int] = []
    while len(picks) < wanted:
        some = min(len(weights), wanted - len(picks))
        picks += [int(i) for i in rng.choice(len(weights), some, replace=False, p=weights / weights.sum())]
    return picks


class StepTiles:
    """All tiles of an epoch's steps as samples, in order: picture, fractions, weights, and the slide of a bag's tile.

    A labelled tile's sample is that of `DrawnTiles` with `LABELLED`. A bag's tile has no fractions; its weights are
    the share of tissue per cell, moved by the augmentation like the picture.
    """

    def __init__(
        self,
        slides: Sequence[LabelledSlide],
        tiles: Sequence[Draw | BagTile],
        classes: Sequence[str],
        augment: Augment | None,
    ) -> None:
        self._slides, self._tiles, self._classes, self._augment = slides, tiles, classes, augment
        self._labelled = DrawnTiles(slides, [t for t in tiles if isinstance(t, Draw)], classes, augment)
        numbers = np.cumsum([isinstance(t, Draw) for t in tiles]) - 1
        self._number = [int(n) for n in numbers]

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> StepSample:
        """Read, label and augment tile `index`."""
        tile = self._tiles[index]
        if isinstance(tile, Draw):
            return *self._labelled[self._number[index]], LABELLED
        source = self._slides[tile.slide]
        rgb, labels = read_bag_tile(source, tile.cell_map_px)
        if self._augment is not None:
            rgb, labels = self._augment(rgb, labels, tile.seed)
        spec = source.tiles.spec
        _, weights = to_fractions(labels, 1, spec.stride_px, spec.margin_cells)
        return (
            np.ascontiguousarray(rgb),
            np.zeros((len(self._classes), *weights.shape), np.float32),
            weights,
            tile.slide,
        )


def read_bag_tile(source: LabelledSlide, cell_map_px: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the tile whose first kept cell is `cell_map_px`: picture (S, S, 3) and (S, S) 0 on tissue, else `IGNORED`.

    A tile that cannot be read is white and without tissue.
    """
    spec, grid = source.tiles.spec, source.tiles.map_grid
    row, column = cell_map_px[0] - spec.margin_cells, cell_map_px[1] - spec.margin_cells
    x, y = grid.to_level0_px(np.array([[column, row]], float))[0]
    tissue = np.zeros((spec.map_cells, spec.map_cells), bool)
    rows, columns = source.tissue.shape
    top, left = max(row, 0), max(column, 0)
    seen = source.tissue[top : min(row + spec.map_cells, rows), left : min(column + spec.map_cells, columns)] > 0.5
    tissue[top - row : top - row + seen.shape[0], left - column : left - column + seen.shape[1]] = seen
    try:
        rgb = source.read_tile((round_px(x), round_px(y)))
    except SlideFailed:
        rgb = np.full((spec.size_px, spec.size_px, 3), 255, np.uint8)
        tissue[:] = False
    fine = tissue.repeat(spec.stride_px, axis=0).repeat(spec.stride_px, axis=1)
    return rgb, np.where(fine, 0, IGNORED).astype(np.uint8)
