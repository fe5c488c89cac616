"""The threshold of a screen: what every choice would miss and show on slides with outlines, and the choice itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histo.config import ClassesConfig
from histo.data.labels import draw_labels
from histo.data.sampling import LabelledSlide
from histo.geometry import MapGrid, TileGrid
from histo.models.screen import Missed
from histo.outlines import feret_mm, paint
from histo.statistics import clopper_pearson, share_by_group

DEPOSIT_UM = 200.0
FINE = 4  # outlines are drawn this many times finer than the map
ROUNDS = 2000
STEP = 1e-3  # thresholds are whole multiples of it


@dataclass(frozen=True, eq=False)
class Stake:
    """What hangs on the tiles of one slide: tissue and lesion area in mm² (N,), and the tiles of every deposit.

    Lesions count as far as the network itself finds them. A deposit is an outlined lesion of at least `DEPOSIT_UM` in
    diameter on tissue of which it finds any; it bears the same number in every view of the slide.
    """

    slide: str
    patient: str
    tissue_mm2: NDArray[np.float64]
    lesion_mm2: NDArray[np.float64]
    deposits: Mapping[int, NDArray[np.int64]]


def stake_of(slide: LabelledSlide, classes: ClassesConfig, found: NDArray[np.bool_]) -> Stake:
    """Return what hangs on the tiles that inference would lay on a slide; `found` (H, W) is where a lesion is found."""
    tiles = slide.tiles
    grid, pyramid = tiles.map_grid, slide.slide.pyramid
    lattice = finer(grid)
    drawn = draw_labels(slide.outlines, classes.names, lattice, 0)
    rows, columns = grid.shape
    lesion = (np.isin(drawn, range(1, len(classes.names)))).reshape(rows, FINE, columns, FINE).mean(axis=(1, 3))
    lesion = np.where((slide.tissue > 0) & found, lesion, 0)
    deposits = [
        outline
        for c in classes.lesions
        for outline in slide.outlines.get(c.name, [])
        if feret_mm(outline, pyramid.mpp_x, pyramid.mpp_y) * 1000 >= DEPOSIT_UM
    ]
    touched = {}
    for number, outline in enumerate(deposits):
        inside = np.zeros(grid.shape, np.uint8)
        paint(inside, [outline], grid, 1)
        cells = (inside > 0) & (slide.tissue > 0)
        if (cells & found).any():
            touched[number] = _under(tiles, cells)
    return Stake(
        slide.record.slide,
        slide.record.patient,
        np.array([slide.tissue[box].sum(dtype=np.float64) for box in tiles.kept_boxes()]) * grid.cell_mm2,
        np.array([lesion[box].sum() for box in tiles.kept_boxes()]) * grid.cell_mm2,
        touched,
    )


def finer(grid: MapGrid) -> MapGrid:
    """Return the lattice with cells `FINE` times smaller."""
    (cx, cy), (ux, uy), (rows, columns) = grid.cell_level0_px, grid.cell_um, grid.shape
    return MapGrid(grid.origin_level0_px, (cx / FINE, cy / FINE), (rows * FINE, columns * FINE), (ux / FINE, uy / FINE))


def _under(tiles: TileGrid, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the tiles whose kept part holds one of the cells (H, W)."""
    return np.array([i for i, box in enumerate(tiles.kept_boxes()) if cells[box].any()], np.int64)


def choose_threshold(stakes: Sequence[Stake], scores: Sequence[NDArray[np.floating]], most_missed: float) -> float:
    """Return the highest threshold that misses at most a share of the lesion area and no deposit; 0 shows everything.

    `scores` (N,) are those of each slide's tiles; a tile is shown where its score reaches the threshold.
    """
    deposits = [
        float(s[under].max()) for stake, s in zip(stakes, scores, strict=True) for under in stake.deposits.values()
    ]
    score, lesion = np.concatenate(list(scores)), np.concatenate([s.lesion_mm2 for s in stakes])
    with_lesion = lesion > 0
    order = np.argsort(score[with_lesion], kind="stable")
    score, lost = score[with_lesion][order], np.cumsum(lesion[with_lesion][order])
    last = int(np.searchsorted(lost, most_missed * lost[-1], side="right")) if len(lost) else 0
    bearable = float(score[last]) if last < len(lost) else 1.0
    # Rounded down: a threshold on the very score of a deposit would hang on the last bit of an engine.
    return max(0.0, float(np.floor(min([bearable, *deposits]) / STEP - 1)) * STEP)


def measure(stakes: Sequence[Stake], scores: Sequence[NDArray[np.floating]], threshold: float, seed: int) -> Missed:
    """Return what a threshold misses and shows of slides that may be seen in several views.

    The interval of the area is a bootstrap of patients. A deposit counts once, as missed where any view misses it.
    """
    shown = [s >= threshold for s in scores]
    pairs = list(zip(stakes, shown, strict=True))
    lesion = np.array([stake.lesion_mm2.sum() for stake, _ in pairs])
    lost = np.array([stake.lesion_mm2[~seen].sum() for stake, seen in pairs])
    tissue = sum(stake.tissue_mm2.sum() for stake, _ in pairs)
    seen_mm2 = sum(stake.tissue_mm2[seen].sum() for stake, seen in pairs)
    missed: dict[tuple[str, int], bool] = {}
    for stake, seen in pairs:
        for number, under in stake.deposits.items():
            missed[stake.slide, number] = missed.get((stake.slide, number), False) or not seen[under].any()
    patients = [stake.patient for stake in stakes]
    return Missed(
        slides=len({stake.slide for stake in stakes}),
        views=len(stakes),
        patients=len(set(patients)),
        lesion_mm2=round(float(lesion.sum()), 4),
        missed_share=min(1.0, float(lost.sum() / lesion.sum())) if lesion.sum() else 0.0,
        missed_share_interval=share_by_group(lost, lesion, patients, ROUNDS, seed),
        deposit_um=DEPOSIT_UM,
        deposits=len(missed),
        deposits_missed=sum(missed.values()),
        deposits_missed_interval=clopper_pearson(sum(missed.values()), len(missed)),
        shown_share=float(seen_mm2 / tissue) if tissue else 0.0,
    )
