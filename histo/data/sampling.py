"""Labelled slides and the tiles that an epoch draws from them; the same seed and epoch draw the same tiles."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.config import TrainConfig
from histo.data.agreement import contradiction
from histo.data.annotations import IGNORE, read_annotations
from histo.data.decoded import DecodedLevel
from histo.data.labels import IGNORED, draw_labels, to_fractions
from histo.data.overview import read_overview
from histo.data.records import SlideRecord
from histo.data.scanned import on_map
from histo.data.slide import Slide, open_slide
from histo.data.stain_norm import AS_THEY_ARE, NormalisedReader, StainNorm, stain_norm_of
from histo.data.tissue import find_tissue
from histo.data.traits import measure_traits
from histo.data.transforms import Augment
from histo.errors import SlideFailed, UsageError
from histo.geometry import MapGrid, TileGrid, TileSpec, lay_tiles, map_grid_for, rebin, round_px, tile_lattice
from histo.outlines import Outline, Stencil, paint, stencil
from histo.timing import Say
from histo.weighting import inverse_counts

FREE_SHARE = 0.8  # of a disk's free space that decoded tissue may take

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class LabelledSlide:
    """A slide with outlines or a diagnosis alone, and its tiles.

    `cells` (H, W) uint8 are the classes of the map's cells, `IGNORED` where there is no tissue or no label;
    `class_cells` (N, C) counts them per tile. `tissue` (H, W) is the share of each cell that is tissue without ink.
    `traits` are properties that could give its label away; `unreached` the classes of which no outline reaches a cell.
    """

    record: SlideRecord
    slide: Slide
    outlines: Mapping[str, list[Stencil]]
    unannotated: int
    tiles: TileGrid
    cells: NDArray[np.uint8]
    class_cells: NDArray[np.int64]
    tissue: NDArray[np.float32]
    diagnosis_only: bool
    traits: Mapping[str, float]
    unreached: tuple[str, ...] = ()
    stain_norm: StainNorm = AS_THEY_ARE
    decoded: DecodedLevel | None = None

    def read_tile(self, position_level0_px: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a tile (S, S, 3) uint8 as the network sees it, decoded before where there is such a store."""
        return self.normalised.read_tile(position_level0_px, self.tiles.plan)

    @property
    def normalised(self) -> NormalisedReader:
        """What reads any tiles of the slide as the network sees them, decoded before where there is such a store."""
        return NormalisedReader(self.decoded or self.slide, self.stain_norm)


def keep_decoded(slides: Sequence[LabelledSlide], folder: Path, budget_gb: float) -> list[LabelledSlide]:
    """Give slides a store of decoded pixels in `folder`, in their order, as long as their tissue fits the budget.

    Nor is the disk filled: what a store writes is in memory first, and a full disk would end the process.
    """
    left = min(budget_gb * 1e9, FREE_SHARE * shutil.disk_usage(folder).free)
    kept = []
    for slide in slides:
        width, height = slide.tiles.plan.size_read_px
        left -= 3.0 * width * height * len(slide.tiles)
        store = DecodedLevel(slide.slide, slide.tiles.plan.level, folder) if left >= 0 else None
        kept.append(replace(slide, decoded=store))
    return kept


def open_all(records: Iterable[SlideRecord], config: TrainConfig, say: Say) -> list[LabelledSlide]:
    """Open slides as `open_labelled` does, and say which of them teach less than they seem to."""
    slides = [open_labelled(record, config) for record in records]
    for line in (gap for slide in slides for gap in gaps_of(slide)):
        say(f"warning: {line}")
    return slides


def gaps_of(slide: LabelledSlide) -> Iterator[str]:
    """Yield what a slide was meant to teach and cannot, in sentences that begin with its name."""
    name, cell_um = slide.record.slide, slide.tiles.map_grid.cell_um[0]
    if not len(slide.tiles):
        yield f"{name} teaches nothing: no tissue was found on it, or all is ignored; histo inspect --preview shows it"
        return
    if lost := slide.unreached:
        told = "its diagnosis alone" if slide.diagnosis_only else f"no {' and no '.join(lost)}"
        yield (
            f"{name} teaches {told}: what is outlined as {' and '.join(lost)} lies beside its tissue, under another "
            f"class or ignore, is smaller than a cell of {cell_um:.0f} µm, or is normal where no lesion is outlined"
        )


def open_labelled(record: SlideRecord, config: TrainConfig) -> LabelledSlide:
    """Open a slide of the manifest with its outlines and lay its tiles.

    A slide with the normal label needs no outlines: all of it is normal. One with a lesion and no outlines has a
    diagnosis only: none of its cells has a label; nor has one whose outlined lesions reach no cell, or it would teach
    that its lesions are normal. Raises `SlideError` for the slide, `UsageError` for its annotation.
    """
    classes = config.classes
    slide = open_slide(record.path, record.mpp)
    outlines: Mapping[str, list[Outline]] = {}
    if record.annotation is not None:
        outlines = read_annotations(record.annotation, classes.names, slide.pyramid, config.data.aliases)
        found = [name for name, drawn in outlines.items() if drawn]
        problem = contradiction(record, found, classes, complete=config.data.unannotated == "normal")
        if problem:
            raise UsageError(problem)
    is_normal = record.label == classes.normal_label
    diagnosis_only = record.annotation is None and not is_normal
    taken_as_normal = is_normal or (config.data.unannotated == "normal" and not diagnosis_only)
    unannotated = 0 if taken_as_normal else IGNORED
    overview, lost = read_overview(slide)
    tissue = find_tissue(overview, lost)
    spec = config.learning_spec()
    grid, _ = map_grid_for(slide.pyramid, spec)
    stencils = {name: [stencil(o) for o in drawn] for name, drawn in outlines.items()}
    tissue_map = on_map(tissue.mask & ~tissue.excluded, overview, slide.pyramid, grid)
    tissue_map = _without(tissue_map, stencils.get(IGNORE, []), grid)
    tiles = lay_tiles(slide.pyramid, spec, tissue_map)
    cells = _cells(stencils, classes.names, tiles, tissue_map, unannotated)
    counts = _count(cells, tiles, len(classes.names))
    unreached = tuple(c for k, c in enumerate(classes.names) if k and stencils.get(c) and not counts[:, k].any())
    if not is_normal and not counts[:, 1:].any():
        unreached = tuple(c for c in classes.names if stencils.get(c))
        diagnosis_only, unannotated, stencils = True, IGNORED, {}
        cells = np.full_like(cells, IGNORED)
        counts = _count(cells, tiles, len(classes.names))
    return LabelledSlide(
        record,
        slide,
        stencils,
        unannotated,
        tiles,
        cells,
        counts,
        tissue_map,
        diagnosis_only,
        measure_traits(record.path, slide.pyramid, overview, tissue),
        unreached,
        stain_norm_of(slide, overview, tissue, config.tile),
    )


def _without(tissue: NDArray[np.float32], ignored: Sequence[Stencil], grid: MapGrid) -> NDArray[np.float32]:
    """Return the tissue (H, W) without what is not to be learnt: nothing is taught, or judged, by it."""
    under = np.zeros(grid.shape, np.uint8)
    paint(under, ignored, grid, 1)
    return np.where(under > 0, np.float32(0), tissue)


def with_tiles(slide: LabelledSlide, spec: TileSpec, classes: Sequence[str]) -> LabelledSlide:
    """Return a slide as it is for tiles of another size, scale or stride; nothing is read for that."""
    grid, _ = map_grid_for(slide.slide.pyramid, spec)
    tissue = rebin(slide.tissue, slide.tiles.map_grid, grid)
    tiles = lay_tiles(slide.slide.pyramid, spec, tissue)
    cells = _cells(slide.outlines, classes, tiles, tissue, slide.unannotated)
    counts = _count(cells, tiles, len(classes))
    return replace(slide, tiles=tiles, cells=cells, class_cells=counts, tissue=tissue, decoded=None)


def _cells(
    outlines: Mapping[str, list[Stencil]],
    classes: Sequence[str],
    tiles: TileGrid,
    tissue: NDArray[np.float32],
    unannotated: int,
) -> NDArray[np.uint8]:
    cells = draw_labels(outlines, classes, tiles.map_grid, unannotated)
    cells[tissue == 0] = IGNORED
    return cells


def _count(cells: NDArray[np.uint8], tiles: TileGrid, classes: int) -> NDArray[np.int64]:
    kept = tiles.spec.kept_cells
    inside = (cells[row : row + kept, column : column + kept] for row, column in tiles.cells_map_px)
    counts = [np.bincount(part.ravel(), minlength=classes)[:classes] for part in inside]
    return np.array(counts, np.int64).reshape(-1, classes)


@dataclass(frozen=True)
class Draw:
    """One tile of an epoch: which slide, where its corner lies, the seed of its augmentation, the class it is for."""

    slide: int
    position_level0_px: tuple[int, int]
    seed: int
    class_index: int = 0


def draw_epoch(slides: Sequence[LabelledSlide], count: int, lesion_share: float, seed: int, epoch: int) -> list[Draw]:
    """Draw the tiles of one epoch: `lesion_share` of them with a lesion, classes and patients in equal parts.

    A tile is placed at random around a cell of the wanted class, so that the cell lies in what is learnt and no
    two epochs see the same tiles. Raises `UsageError` when no slide has any labelled tissue.
    """
    rng = np.random.default_rng([seed, epoch])
    classes = slides[0].class_cells.shape[1]
    by_class = [[s for s, slide in enumerate(slides) if slide.class_cells[:, c].any()] for c in range(classes)]
    lesions = [c for c in range(1, classes) if by_class[c]]
    if not any(by_class):
        raise UsageError("no slide shows labelled tissue; check the annotations and, with `histo inspect`, the slides")
    draws = []
    for _ in range(count):
        wants_lesion = bool(lesions) and (rng.random() < lesion_share or not by_class[0])
        c = int(rng.choice(lesions)) if wants_lesion else 0
        s = choose_by_patient(slides, by_class[c], rng)
        draws.append(Draw(s, _place(slides[s], c, rng), int(rng.integers(2**31)), c))
    return draws


def expected_cells(slides: Sequence[LabelledSlide], lesion_share: float) -> NDArray[np.float64]:
    """Return how many cells of every class (C,) a tile of `draw_epoch` is expected to show."""
    classes = slides[0].class_cells.shape[1]
    by_class = [[s for s in slides if s.class_cells[:, c].any()] for c in range(classes)]
    lesions = [c for c in range(1, classes) if by_class[c]]
    chance = np.zeros(classes)
    chance[lesions] = (lesion_share if by_class[0] else 1.0) / max(1, len(lesions))
    chance[0] = 1 - chance.sum()
    shown = np.zeros(classes)
    for c in np.flatnonzero(chance).tolist():
        for slide, weight in zip(by_class[c], _by_patient([s.record.patient for s in by_class[c]]), strict=True):
            tile = np.sqrt(slide.class_cells[:, c])
            shown += chance[c] * weight * (tile / tile.sum() @ slide.class_cells)
    return shown


def choose_by_patient(slides: Sequence[LabelledSlide], among: Sequence[int], rng: np.random.Generator) -> int:
    """Choose one of the slides `among`, every patient as likely as any other however many slides he has."""
    return int(rng.choice(among, p=_by_patient([slides[s].record.patient for s in among])))


def _by_patient(patients: Sequence[str]) -> NDArray[np.float64]:
    """Return the chance (N,) of every slide when each patient is as likely as any other."""
    weight = inverse_counts(patients)
    return np.asarray(weight / weight.sum())


def _place(slide: LabelledSlide, class_index: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the corner of a tile that learns a random cell of a class."""
    spec = slide.tiles.spec
    # By the root of the area: a tile with a speck of lesion is drawn too, and much oftener than by area.
    weight = np.sqrt(slide.class_cells[:, class_index])
    row, column = slide.tiles.cells_map_px[rng.choice(len(weight), p=weight / weight.sum())]
    part = slide.cells[row : row + spec.kept_cells, column : column + spec.kept_cells]
    down, right = rng.choice(np.argwhere(part == class_index))
    return place_around(slide, int(row + down), int(column + right), rng)


def place_around(slide: LabelledSlide, row: int, column: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the level-0 corner of a tile that lies at random around a cell of the map, which it learns."""
    spec, plan = slide.tiles.spec, slide.tiles.plan
    centre = slide.tiles.map_grid.to_level0_px(np.array([[column + 0.5, row + 0.5]]))[0]
    x, y = centre - rng.uniform(spec.margin_px, spec.size_px - spec.margin_px, 2) * plan.tile_px_level0
    return round_px(x), round_px(y)


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
        lattice = tile_lattice(draw.position_level0_px, source.tiles.plan, source.slide.pyramid)
        labels = draw_labels(source.outlines, self._classes, lattice, source.unannotated)
        return sample_of(source, draw, labels, len(self._classes), self._augment)


def sample_of(
    source: LabelledSlide, draw: Draw, labels: NDArray[np.uint8], classes: int, augment: Augment | None
) -> Sample:
    """Read a drawn tile whose labels (S, S) are known, and augment both; one that cannot be read has no weight."""
    try:
        rgb = source.read_tile(draw.position_level0_px)
    except SlideFailed:
        rgb = np.full((*labels.shape, 3), 255, np.uint8)
        labels = np.full_like(labels, IGNORED)
    if augment is not None:
        rgb, labels = augment(rgb, labels, draw.seed)
    spec = source.tiles.spec
    fractions, weights = to_fractions(labels, classes, spec.stride_px, spec.margin_cells)
    return np.ascontiguousarray(rgb), fractions, weights
