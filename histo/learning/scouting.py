"""Looking over the training slides with the network as it is: its false positives, and the strongest tiles of bags."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histo.config import TrainConfig
from histo.data.sampling import LabelledSlide
from histo.data.tiles import TileDataset, stream_batches
from histo.learning.bags import Found
from histo.learning.presence import presence_of
from histo.models.classifier import TileClassifier

READERS = 2
FALSE_ALARM = 0.3  # a normal cell with less lesion probability teaches little


def nothing_found() -> Found:
    """Return what is known before the first look."""
    return Found({}, {})


def look_over(
    network: TileClassifier, slides: Sequence[LabelledSlide], config: TrainConfig, epoch: int, before: Found
) -> Found:
    """Return false positives and strongest tiles as the network sees them now, or `before` where none is due.

    A resumed run may ask for an epoch again that was looked over before: that changes nothing.
    The network is scored in evaluation mode and left in the mode that it was in; no random numbers of torch are used.
    """
    if epoch <= before.epoch:
        return before
    hard, strong = dict(before.hard), dict(before.strong)
    mine = config.mining.every_epochs > 0 and epoch > 0 and epoch % config.mining.every_epochs == 0
    # The first look of a network that knows nothing would be worse than chance.
    knows = epoch > 0 or config.network.start not in ("random", "imagenet")
    refresh = knows and config.loss.slide_weight > 0 and epoch % config.weak.refresh_epochs == 0
    was_training = network.training
    network.eval()
    for s, slide in enumerate(slides):
        if slide.diagnosis_only and refresh:
            strong[s] = _strongest(network, slide, config, epoch, s)
        elif not slide.diagnosis_only and mine:
            hard[s] = _false_positives(network, slide, config, epoch, s)
    network.train(was_training)
    return Found(hard, strong, epoch)


def _strongest(
    network: TileClassifier, slide: LabelledSlide, config: TrainConfig, epoch: int, number: int
) -> NDArray[np.int64]:
    """Return the first kept cells (N, 2) of the tiles that show most of what the slide's label says."""
    group = list(presence_of(slide.record.label, config.classes).one_of)
    chosen = _sample(np.arange(len(slide.tiles)), config.weak.scored_tiles, [config.seed, epoch, number, 2])
    scores = np.zeros(len(chosen))
    for indices, probability in _scored(network, slide, chosen):
        share = probability[:, group].sum(axis=1).reshape(len(indices), -1)
        few = max(1, share.shape[1] // 20)
        scores[indices] = np.partition(share, -few, axis=1)[:, -few:].mean(axis=1)
    best = np.argsort(-scores, kind="stable")[: config.weak.strongest_tiles]
    return slide.tiles.cells_map_px[chosen[best]]


def _false_positives(
    network: TileClassifier, slide: LabelledSlide, config: TrainConfig, epoch: int, number: int
) -> NDArray[np.int64]:
    """Return the map cells (N, 2), one a tile, that are labelled normal and look most like a lesion."""
    normal = np.flatnonzero(slide.class_cells[:, 0])
    chosen = _sample(normal, config.mining.scored_tiles, [config.seed, epoch, number, 3])
    kept = slide.tiles.spec.kept_cells
    found: list[tuple[float, int, int]] = []
    for indices, probability in _scored(network, slide, chosen):
        for index, lesion in zip(indices, 1 - probability[:, 0], strict=True):
            row, column = (int(v) for v in slide.tiles.cells_map_px[chosen[index]])
            labels = slide.cells[row : row + kept, column : column + kept]
            wrong = np.where(labels == 0, lesion[: labels.shape[0], : labels.shape[1]], 0)
            down, right = np.unravel_index(int(wrong.argmax()), wrong.shape)
            found.append((float(wrong.max()), row + int(down), column + int(right)))
    worst = sorted((f for f in found if f[0] >= FALSE_ALARM), reverse=True)[: config.mining.tiles_per_slide]
    return np.array([cell for _, *cell in worst], np.int64).reshape(-1, 2)


def _sample(indices: NDArray[np.int64], count: int, seed: Sequence[int]) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(indices)[:count])


def _scored(
    network: TileClassifier, slide: LabelledSlide, chosen: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield indices into `chosen` and the probability (B, C, h, w) of the tiles' kept cells."""
    spec = slide.tiles.spec
    inner = slice(spec.margin_cells, spec.margin_cells + spec.kept_cells)
    device = network.mean.device
    tiles = TileDataset(slide.slide, slide.tiles.plan, slide.tiles.positions_level0_px[chosen])
    for batch in stream_batches(tiles, 8, READERS):
        if len(batch.indices):
            with torch.no_grad():
                logits: Tensor = network(torch.from_numpy(batch.rgb).to(device).permute(0, 3, 1, 2)).float()
            yield batch.indices, np.asarray(logits.softmax(dim=1)[:, :, inner, inner].cpu().numpy(), np.float32)


def to_state(found: Found) -> dict[str, dict[str, Tensor]]:
    """Return what was found as tensors, for a checkpoint that opens without running code."""
    state = {
        kind: {str(s): torch.from_numpy(np.ascontiguousarray(cells)) for s, cells in part.items()}
        for kind, part in (("hard", found.hard), ("strong", found.strong))
    }
    return state | {"epoch": {"before": torch.tensor(found.epoch)}}


def from_state(state: dict[str, dict[str, Tensor]]) -> Found:
    """Return what `to_state` kept."""
    hard, strong = ({int(s): cells.numpy() for s, cells in state[kind].items()} for kind in ("hard", "strong"))
    return Found(hard, strong, int(state["epoch"]["before"]))
