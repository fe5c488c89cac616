"""Labelled slides and the tiles that an epoch draws from them; the same seed and epoch draw the same tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.config import TrainConfig
from histo.data.annotations import read_annotations
from histo.data.labels import IGNORED, draw_labels, to_fractions
from histo.data.manifest import SlideRecord
from histo.data.overview import read_overview
from histo.data.slide import Slide, open_slide
from histo.data.tissue import find_tissue
from histo.data.transforms import Augment
from histo.errors import SlideFailed, UsageError
from histo.geometry import TileGrid, lay_tiles, map_grid_for, rebin, round_px, tile_lattice
from histo.outlines import Outline

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class LabelledSlide:
    """A slide with outlines, its tiles, and the area (N, C) in map cells that each class covers in each tile."""

    record: SlideRecord
    slide: Slide
    outlines: Mapping[str, list[Outline]]
    unannotated: int
    tiles: TileGrid
    class_cells: NDArray[np.float32]


def open_labelled(record: SlideRecord, config: TrainConfig) -> LabelledSlide:
    """Open a slide of the manifest with its outlines and lay its tiles.

    A slide with the normal label needs no outlines: all of it is normal. Raises `SlideError` for the slide and
    `UsageError` for its annotation, or when a slide with a lesion has none.
    """
    classes = config.classes
    slide = open_slide(record.path, record.mpp)
    outlines: Mapping[str, list[Outline]] = {}
    if record.annotation is not None:
        outlines = read_annotations(record.annotation, classes.names, slide.pyramid)
    elif record.label != classes.normal_label:
        raise UsageError(
            f"slide {record.slide} is labelled {record.label} and has no annotation; outline its lesions in QuPath and "
            "name the GeoJSON file in the manifest's annotation column"
        )
    is_normal = record.label == classes.normal_label
    unannotated = 0 if is_normal or config.data.unannotated == "normal" else IGNORED
    overview, lost = read_overview(slide)
    tissue = find_tissue(overview, lost)
    spec = config.tile.spec()
    grid, _ = map_grid_for(slide.pyramid, spec)
    tissue_map = rebin(tissue.mask & ~tissue.excluded, overview.grid, grid)
    tiles = lay_tiles(slide.pyramid, spec, tissue_map)
    labels = draw_labels(outlines, classes.names, grid, unannotated)
    class_cells = _count(labels, tissue_map, tiles, len(classes.names))
    return LabelledSlide(record, slide, outlines, unannotated, tiles, class_cells)


def _count(
    labels: NDArray[np.uint8], tissue: NDArray[np.float32], tiles: TileGrid, classes: int
) -> NDArray[np.float32]:
    kept = tiles.spec.kept_cells
    cells = np.zeros((len(tiles), classes), np.float32)
    for i, (row, column) in enumerate(tiles.cells_map_px):
        box = np.s_[row : row + kept, column : column + kept]
        cells[i] = [tissue[box][labels[box] == c].sum() for c in range(classes)]
    return cells


@dataclass(frozen=True)
class Draw:
    """One tile of an epoch: which slide, where its corner lies, and the seed of its augmentation."""

    slide: int
    position_level0_px: tuple[int, int]
    seed: int


def draw_epoch(slides: Sequence[LabelledSlide], count: int, lesion_share: float, seed: int, epoch: int) -> list[Draw]:
    """Draw the tiles of one epoch: `lesion_share` of them with a lesion, classes and slides in equal parts.

    Positions are jittered by up to half a tile, so that no two epochs see the same tiles.
    """
    rng = np.random.default_rng([seed, epoch])
    by_class = {
        c: [s for s, slide in enumerate(slides) if slide.class_cells[:, c].any()]
        for c in range(slides[0].class_cells.shape[1])
    }
    lesions = [c for c, having in by_class.items() if c > 0 and having]
    draws = []
    for _ in range(count):
        wants_lesion = bool(lesions) and (rng.random() < lesion_share or not by_class[0])
        c = int(rng.choice(lesions)) if wants_lesion else 0
        s = int(rng.choice(by_class[c]))
        slide = slides[s]
        # By the root of the area: a tile with a speck of lesion is drawn too, and much oftener than by area.
        weight = np.sqrt(slide.class_cells[:, c].astype(np.float64))
        tile = int(rng.choice(len(weight), p=weight / weight.sum()))
        side = slide.tiles.plan.size_tile_px
        jitter = rng.uniform(-side / 2, side / 2, 2) * slide.tiles.plan.tile_px_level0
        x, y = slide.tiles.positions_level0_px[tile] + jitter
        draws.append(Draw(s, (round_px(x), round_px(y)), int(rng.integers(2**31))))
    return draws


def fixed_tiles(slides: Sequence[LabelledSlide], count: int, seed: int) -> list[Draw]:
    """Return at most `count` tiles on the inference grid for validation, as many with a lesion as without."""
    rng = np.random.default_rng(seed)
    groups: dict[bool, list[Draw]] = {True: [], False: []}
    for s, slide in enumerate(slides):
        for cells, (x, y) in zip(slide.class_cells, slide.tiles.positions_level0_px, strict=True):
            groups[bool(cells[1:].any())].append(Draw(s, (int(x), int(y)), 0))
    chosen = []
    for group in groups.values():
        picks = rng.permutation(len(group))[: count // 2]
        chosen += [group[i] for i in sorted(picks)]
    return chosen


class DrawnTiles:
    """The drawn tiles as samples: picture (S, S, 3) uint8, class fractions (C, h, w), weights (h, w).

    The margin's weights are zero: the network is not taught what inference throws away. A tile that cannot be
    read is white with zero weight, so that a damaged spot costs that spot.
    """

    def __init__(
        self, slides: Sequence[LabelledSlide], draws: Sequence[Draw], classes: Sequence[str], augment: Augment | None
    ) -> None:
        self._slides, self._draws, self._classes, self._augment = slides, draws, classes, augment

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, index: int) -> Sample:
        """Read, label and augment tile `index`."""
        draw = self._draws[index]
        source = self._slides[draw.slide]
        spec, plan = source.tiles.spec, source.tiles.plan
        lattice = tile_lattice(draw.position_level0_px, plan, source.slide.pyramid)
        labels = draw_labels(source.outlines, self._classes, lattice, source.unannotated)
        try:
            rgb = source.slide.read_tile(draw.position_level0_px, plan)
        except SlideFailed:
            rgb = np.full((*labels.shape, 3), 255, np.uint8)
            labels = np.full_like(labels, IGNORED)
        if self._augment is not None:
            rgb, labels = self._augment(rgb, labels, draw.seed)
        fractions, weights = to_fractions(labels, len(self._classes), spec.stride_px)
        inner = np.zeros_like(weights)
        inside = slice(spec.margin_cells, spec.map_cells - spec.margin_cells)
        inner[inside, inside] = weights[inside, inside]
        return np.ascontiguousarray(rgb), fractions, inner
