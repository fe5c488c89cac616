"""Looking over the training slides with the network as it is: what it gets wrong, and the strongest tiles of bags."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from histo.config import TrainConfig
from histo.data.labels import IGNORED
from histo.data.sampling import LabelledSlide
from histo.data.tiles import TileDataset, stream_batches
from histo.learning.bags import Found
from histo.learning.presence import presence_of
from histo.models.classifier import TileClassifier

READERS = 2
WRONG = 0.3  # a cell whose true class is more probable than 1 minus this teaches little


def nothing_found() -> Found:
    """Return what is known before the first look."""
    return Found({}, {}, {})


def look_over(
    network: TileClassifier,
    slides: Sequence[LabelledSlide],
    config: TrainConfig,
    epoch: int,
    before: Found,
    starts_knowing: bool,
) -> Found:
    """Return mistakes and strongest tiles as the network sees them now, or `before` where none is due.

    Before the first epoch only a start that knows the classes is asked: what others find is worse than chance.
    A resumed run may ask for an epoch again that was looked over before: that changes nothing.
    The network is scored in evaluation mode and left in the mode that it was in; no random numbers of torch are used.
    """
    if epoch <= before.epoch:
        return before
    hard, missed, strong = dict(before.hard), dict(before.missed), dict(before.strong)
    mine = config.mining.every_epochs > 0 and epoch > 0 and epoch % config.mining.every_epochs == 0
    refresh = (epoch > 0 or starts_knowing) and config.loss.slide_weight > 0 and epoch % config.weak.refresh_epochs == 0
    was_training = network.training
    network.eval()
    for s, slide in enumerate(slides):
        if slide.diagnosis_only and refresh:
            strong[s] = _strongest(network, slide, config, [config.seed, epoch, s, 2], before.strong.get(s))
        elif not slide.diagnosis_only and mine:
            hard[s] = _mistakes(network, slide, config, [config.seed, epoch, s, 3], lesions=False)
            missed[s] = _mistakes(network, slide, config, [config.seed, epoch, s, 4], lesions=True)
    network.train(was_training)
    return Found(hard, missed, strong, epoch)


def _strongest(
    network: TileClassifier,
    slide: LabelledSlide,
    config: TrainConfig,
    seed: Sequence[int],
    before: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Return the first kept cells (N, 2) of the tiles that show most of what the slide's label says.

    Those that were the strongest `before` are scored again beside others: what is found on a large slide stays found.
    """
    group = list(presence_of(slide.record.label, config.classes).one_of)
    chosen = _sample(np.arange(len(slide.tiles)), config.weak.scored_tiles, seed)
    if before is not None:
        again = (slide.tiles.cells_map_px[:, None] == before[None]).all(axis=2).any(axis=1)
        chosen = np.union1d(chosen, np.flatnonzero(again))
    scores = np.zeros(len(chosen))
    for indices, probability in _scored(network, slide, chosen):
        share = probability[:, group].sum(axis=1).reshape(len(indices), -1)
        few = max(1, share.shape[1] // 20)
        scores[indices] = np.partition(share, -few, axis=1)[:, -few:].mean(axis=1)
    best = np.argsort(-scores, kind="stable")[: config.weak.strongest_tiles]
    return slide.tiles.cells_map_px[chosen[best]]


def _mistakes(
    network: TileClassifier, slide: LabelledSlide, config: TrainConfig, seed: Sequence[int], lesions: bool
) -> NDArray[np.int64]:
    """Return the map cells (N, 2), one a tile, of lesions or of normal tissue, whose true class looks least probable.

    Cells of a lesion's edge, which hold two classes, are left out: they are uncertain by nature.
    """
    here = slide.class_cells[:, 1:].any(axis=1) if lesions else slide.class_cells[:, 0] > 0
    chosen = _sample(np.flatnonzero(here), config.mining.scored_tiles, seed)
    kept = slide.tiles.spec.kept_cells
    wanted = _inner_lesions(slide.cells) if lesions else np.where(slide.cells == 0, 0, IGNORED)
    found: list[tuple[float, int, int]] = []
    for indices, probability in _scored(network, slide, chosen):
        for index, scores in zip(indices, probability, strict=True):
            row, column = (int(v) for v in slide.tiles.cells_map_px[chosen[index]])
            labels = wanted[row : row + kept, column : column + kept]
            true = np.where(labels == IGNORED, 0, labels)
            scores = scores[:, : labels.shape[0], : labels.shape[1]]
            wrong = np.where(labels == IGNORED, 0, 1 - np.take_along_axis(scores, true[None].astype(int), 0)[0])
            down, right = np.unravel_index(int(wrong.argmax()), wrong.shape)
            found.append((float(wrong.max()), row + int(down), column + int(right)))
    worst = sorted((f for f in found if f[0] >= WRONG), reverse=True)[: config.mining.tiles_per_slide]
    return np.array([cell for _, *cell in worst], np.int64).reshape(-1, 2)


def _inner_lesions(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the lesions' cells whose neighbours have the same label; all others are ignored."""
    same = ndimage.minimum_filter(cells, 3) == ndimage.maximum_filter(cells, 3)
    return np.where(same & (cells > 0), cells, IGNORED)


def _sample(indices: NDArray[np.int64], count: int, seed: Sequence[int]) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(indices)[:count])


def _scored(
    network: TileClassifier, slide: LabelledSlide, chosen: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield indices into `chosen` and the probability (B, C, h, w) of the tiles' kept cells."""
    spec = slide.tiles.spec
    inner = slice(spec.margin_cells, spec.margin_cells + spec.kept_cells)
    device = network.mean.device
    tiles = TileDataset(slide.normalised, slide.tiles.plan, slide.tiles.positions_level0_px[chosen])
    for batch in stream_batches(tiles, 8, READERS):
        if len(batch.indices):
            with torch.no_grad():
                logits: Tensor = network(torch.from_numpy(batch.rgb).to(device).permute(0, 3, 1, 2)).float()
            yield batch.indices, np.asarray(logits.softmax(dim=1)[:, :, inner, inner].cpu().numpy(), np.float32)


def to_state(found: Found) -> dict[str, dict[str, Tensor]]:
    """Return what was found as tensors, for a checkpoint that opens without running code."""
    state = {
        kind: {str(s): torch.from_numpy(np.ascontiguousarray(cells)) for s, cells in part.items()}
        for kind, part in (("hard", found.hard), ("missed", found.missed), ("strong", found.strong))
    }
    return state | {"epoch": {"before": torch.tensor(found.epoch)}}


def from_state(state: dict[str, dict[str, Tensor]]) -> Found:
    """Return what `to_state` kept."""
    kinds = ("hard", "missed", "strong")
    hard, missed, strong = ({int(s): cells.numpy() for s, cells in state[kind].items()} for kind in kinds)
    return Found(hard, missed, strong, int(state["epoch"]["before"]))
