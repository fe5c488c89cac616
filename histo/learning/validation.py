"""Validation while training: fixed tiles of every validation slide, and a measure by patient instead of by tile."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histo.config import ClassesConfig, TrainConfig
from histo.data.sampling import Draw, DrawnTiles, LabelledSlide
from histo.learning.presence import presence_of, verdict_of
from histo.models.calibration import Scaling, fit_scaling
from histo.models.classifier import TileClassifier

EXAMINED_AT_ONCE = 8
FAR_ENOUGH = 0.001  # no patient costs more than if his label had this probability
ValidationSample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int]


def choose_tiles(slide: LabelledSlide, count: int, seed: int) -> NDArray[np.int64]:
    """Return indices of at most `count` tiles of the inference grid; up to half of them those with outlined lesions."""
    rng = np.random.default_rng(seed)
    with_lesion = np.asarray(slide.class_cells[:, 1:].any(axis=1))
    order = rng.permutation(len(slide.tiles))
    lesions = order[with_lesion[order]][: max(count // 2, 1)]
    others = order[~np.isin(order, lesions)][: count - len(lesions)]
    return np.sort(np.concatenate([lesions, others])).astype(np.int64)


def tiles_to_see(slides: Sequence[LabelledSlide], config: TrainConfig) -> list[int]:
    """Return how many tiles of every slide are looked at.

    Where a slide has a diagnosis only, nobody knows which of its tiles show it: many are looked at, and as many of the
    normal slides, for the strongest of many tiles is stronger than that of a few.
    """
    few, many = config.stop.tiles_per_slide, config.stop.unoutlined_tiles_per_slide
    if not any(s.diagnosis_only for s in slides):
        return [few] * len(slides)
    normal = config.classes.normal_label
    return [max(few, many) if s.diagnosis_only or s.record.label == normal else few for s in slides]


class ValidationTiles:
    """Tiles on the inference grid, unaugmented: picture, fractions, weights, tissue (h, w) and slide number."""

    def __init__(self, slides: Sequence[LabelledSlide], config: TrainConfig) -> None:
        self._slides = slides
        self._tiles = [
            (s, int(i))
            for s, (slide, count) in enumerate(zip(slides, tiles_to_see(slides, config), strict=True))
            for i in choose_tiles(slide, count, config.seed)
        ]
        few = config.stop.tiles_per_slide
        own = [frozenset(choose_tiles(slide, few, config.seed).tolist()) for slide in slides]
        # The others tell what is on a patient; cells of normal tissue would outnumber those of lesions.
        self._labelled = [i in own[s] for s, i in self._tiles]
        draws = [Draw(s, self._corner(s, i), 0) for s, i in self._tiles]
        self._drawn = DrawnTiles(slides, draws, config.classes.names, None)

    def _corner(self, s: int, i: int) -> tuple[int, int]:
        x, y = self._slides[s].tiles.positions_level0_px[i]
        return int(x), int(y)

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> ValidationSample:
        """Read and label tile `index`."""
        s, i = self._tiles[index]
        slide = self._slides[s]
        spec = slide.tiles.spec
        row, column = (int(v) for v in slide.tiles.cells_map_px[i])
        seen = slide.tissue[row : row + spec.kept_cells, column : column + spec.kept_cells]
        tissue = np.zeros((spec.map_cells, spec.map_cells), np.float32)
        margin = spec.margin_cells
        tissue[margin : margin + seen.shape[0], margin : margin + seen.shape[1]] = seen
        rgb, fractions, weights = self._drawn[index]
        return rgb, fractions, weights * np.float32(self._labelled[index]), tissue, s


class PatientMeter:
    """Collects score maps of validation slides and measures how well they tell what is on each patient.

    The presence of a class on a slide is the mean probability over its strongest cells that make up the smallest area
    that counts, wherever on the slide they lie; a patient has the most of his slides.
    """

    def __init__(self, slides: Sequence[LabelledSlide], classes: ClassesConfig) -> None:
        self._slides, self._classes = slides, classes
        self._strongest: dict[tuple[int, int], Tensor] = {}

    def add(self, numbers: Tensor, probability: Tensor, tissue: Tensor) -> None:
        """Take probability (B, C, h, w) of tiles of slides `numbers` (B,); only cells with tissue (B, h, w) count."""
        for number, scores, inside in zip(numbers.tolist(), probability.cpu(), tissue.cpu() > 0, strict=True):
            cell_mm2 = self._slides[number].tiles.map_grid.cell_mm2
            for c, lesion in enumerate(self._classes.lesions, start=1):
                most = max(1, math.ceil(lesion.min_area_mm2 / cell_mm2))
                before = self._strongest.get((number, c), torch.empty(0))
                values = torch.cat([before, scores[c][inside]])
                self._strongest[number, c] = values.topk(min(most, len(values))).values

    def presence(self, number: int) -> tuple[float, ...]:
        """Return the presence of every lesion class on a slide."""
        found = []
        for c, lesion in enumerate(self._classes.lesions, start=1):
            most = max(1, math.ceil(lesion.min_area_mm2 / self._slides[number].tiles.map_grid.cell_mm2))
            found.append(float(self._strongest.get((number, c), torch.empty(0)).double().sum()) / most)
        return tuple(found)

    def measure(self) -> dict[str, float]:
        """Return `patient_loss`, the mean log loss of what the labels say is there, and `patient_accuracy`, balanced.

        Both average over labels first, so that a rare label counts as much as a frequent one.
        """
        labels, presence = self._patients()
        loss: dict[str, list[float]] = {}
        right: dict[str, list[float]] = {}
        for patient, label in labels.items():
            found = presence[patient]
            costs = []
            for group, answer in presence_of(label, self._classes).questions:
                p = max(found[c - 1] for c in group)
                p = p if answer else 1 - p
                costs.append(-math.log(min(max(p, FAR_ENOUGH), 1.0)))
            verdict = verdict_of(tuple(p >= 0.5 for p in found), self._classes)
            loss.setdefault(label, []).append(math.fsum(costs) / len(costs))
            right.setdefault(label, []).append(float(verdict == label))
        return {
            "patient_loss": float(np.mean([np.mean(values) for values in loss.values()])),
            "patient_accuracy": float(np.mean([np.mean(values) for values in right.values()])),
        }

    def _patients(self) -> tuple[dict[str, str], dict[str, tuple[float, ...]]]:
        """Return label and presence by patient: the label of highest precedence, the most of every class."""
        order = [*dict.fromkeys(c.verdict for c in self._classes.lesions), self._classes.normal_label]
        labels: dict[str, str] = {}
        presence: dict[str, tuple[float, ...]] = {}
        for number, slide in enumerate(self._slides):
            patient, label = slide.record.patient, slide.record.label
            labels[patient] = min(labels.get(patient, label), label, key=order.index)
            found = self.presence(number)
            presence[patient] = tuple(map(max, presence.get(patient, found), found))
        return labels, presence


class CellMeter:
    """Collects the labelled cells of validation slides and measures how well the network tells them apart."""

    def __init__(self, classes: int) -> None:
        self._logits = [np.empty((0, classes), np.float32)]
        self._fractions = [np.empty((0, classes), np.float32)]

    def add(self, logits: Tensor, fractions: Tensor, weights: Tensor) -> None:
        """Take logits and class fractions (B, C, h, w) of tiles; cells with a weight (B, h, w) of 0 are left out."""
        used = weights.cpu() > 0
        self._logits.append(logits.cpu().permute(0, 2, 3, 1)[used].numpy())
        self._fractions.append(fractions.cpu().permute(0, 2, 3, 1)[used].numpy())

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits (N, C) of the cells."""
        return np.concatenate(self._logits)

    @property
    def fractions(self) -> NDArray[np.float32]:
        """Class fractions (N, C) of the cells."""
        return np.concatenate(self._fractions)

    @property
    def shows_lesions(self) -> bool:
        """Whether some labelled cell holds a lesion; without one nothing can be calibrated."""
        return bool((self.fractions[:, 1:] > 0).any())

    def measure(self) -> dict[str, float]:
        """Return `validation_loss`, the mean cross-entropy of the cells; nothing without cells.

        Where some show a lesion it is that with the temperature and offsets that fit these cells best: a network that
        is shown its mistakes again expects more lesions than there are, which says nothing of how well it tells them
        apart.
        """
        logits, fractions = self.logits, self.fractions
        if not len(logits):
            return {}
        as_it_is = Scaling(1.0, np.zeros(fractions.shape[1]))
        scaling = fit_scaling(logits, fractions, with_offsets=True) if self.shows_lesions else as_it_is
        return {"validation_loss": scaling.loss(logits, fractions)}


class Meters:
    """Both measures of the validation tiles as a network sees them, and the cells to calibrate it on."""

    def __init__(self, slides: Sequence[LabelledSlide], classes: ClassesConfig) -> None:
        self.patients, self.cells = PatientMeter(slides, classes), CellMeter(len(classes.names))

    def add(self, numbers: Tensor, logits: Tensor, fractions: Tensor, weights: Tensor, tissue: Tensor) -> None:
        """Take logits and fractions (B, C, h, w), weights and tissue (B, h, w) of tiles of slides `numbers` (B,)."""
        self.patients.add(numbers, logits.softmax(dim=1), tissue)
        self.cells.add(logits, fractions, weights)

    def measure(self) -> dict[str, float]:
        """Return `patient_loss`, `patient_accuracy` and, where cells are labelled, `validation_loss`."""
        return self.patients.measure() | self.cells.measure()


def examine(network: TileClassifier, slides: Sequence[LabelledSlide], config: TrainConfig) -> Meters:
    """Score the validation tiles with a network on the CPU in evaluation mode."""
    meters, tiles = Meters(slides, config.classes), ValidationTiles(slides, config)
    with torch.inference_mode():
        for start in range(0, len(tiles), EXAMINED_AT_ONCE):
            samples = [tiles[i] for i in range(start, min(start + EXAMINED_AT_ONCE, len(tiles)))]
            rgb, fractions, weights, tissue = (torch.from_numpy(np.stack([s[i] for s in samples])) for i in range(4))
            numbers = torch.tensor([s[4] for s in samples])
            meters.add(numbers, network(rgb.permute(0, 3, 1, 2)).float(), fractions, weights, tissue)
    return meters
