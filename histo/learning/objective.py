"""What one training step minimises: cells against outlines, bags against diagnoses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from histo.config import TrainConfig
from histo.data.sampling import LabelledSlide, expected_cells
from histo.errors import UsageError
from histo.learning.bags import LABELLED
from histo.learning.losses import bag_loss, cell_loss, class_weights
from histo.learning.presence import presence_of
from histo.models.classifier import TileClassifier
from histo.timing import Say
from histo.training_options import LossConfig
from histo.wording import counted


class Objective:
    """The loss of a step of `histo.learning.bags.draw_steps` on `slides`."""

    def __init__(self, config: TrainConfig, slides: Sequence[LabelledSlide]) -> None:
        self._config = config
        self._presence = [presence_of(s.record.label, config.classes) for s in slides]
        shown = expected_cells(slides, config.data.lesion_share) * config.data.tiles_per_epoch
        self._class_weights = class_weights(shown.tolist(), config)

    def __call__(self, network: TileClassifier, batch: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of (tiles, fractions, weights, slide numbers) and what is worth writing down of it.

        Tiles are (B, S, S, 3) uint8; those with labels of their own come first, then whole bags.
        """
        tiles, fractions, weights, numbers = batch
        c = self._config
        logits = network(tiles.permute(0, 3, 1, 2)).float()
        own = int((numbers == LABELLED).sum())
        balance = None if self._class_weights is None else self._class_weights.to(logits.device)
        cells = cell_loss(logits[:own], fractions[:own], weights[:own], c.loss, balance)
        hit = (logits[:own].argmax(dim=1) == fractions[:own].argmax(dim=1)).float() * weights[:own]
        values = {"training_accuracy": hit.sum() / weights[:own].sum().clamp(min=1e-6)}
        loss = c.loss.outline_weight * cells
        starts = range(own, len(tiles), c.weak.bag_tiles)
        if starts:
            bags = [slice(start, start + c.weak.bag_tiles) for start in starts]
            costs = [
                bag_loss(logits[b], weights[b], self._presence[int(numbers[b.start])], c.weak, c.loss) for b in bags
            ]
            values["training_bag_loss"] = torch.stack(costs).mean()
            loss = loss + c.loss.slide_weight * values["training_bag_loss"]
        return loss, {"training_loss": loss, **values}


def check_lessons(slides: Sequence[LabelledSlide], loss: LossConfig, say: Say) -> None:
    """Say which slides teach nothing because their part of the loss weighs nothing.

    Raises `UsageError` where that is all of them: a network would drift and learn nothing.
    """
    kinds = (("outline_weight", [s for s in slides if not s.diagnosis_only], "outlines, or that are normal,"),
             ("slide_weight", [s for s in slides if s.diagnosis_only], "a diagnosis alone"))  # fmt: skip
    for key, theirs, what in kinds:
        if theirs and getattr(loss, key) == 0:
            if len(theirs) == len(slides):
                raise UsageError(f"loss.{key} is 0, and all slides to train on teach by it; give it a weight")
            say(f"warning: {counted(len(theirs), 'slide')} with {what} teach nothing: loss.{key} is 0")


def make_optimiser(network: TileClassifier, config: TrainConfig, together: int) -> tuple[AdamW, OneCycleLR]:
    """Return AdamW on what is not frozen, and its one cycle; `together` batches (of all processes) make one step."""
    o = config.optimiser
    steps = o.epochs * max(1, -(-(config.data.tiles_per_epoch // o.batch_size) // together))
    learning = [p for p in network.parameters() if p.requires_grad]
    adam = AdamW(learning, lr=o.learning_rate, weight_decay=o.weight_decay)
    return adam, one_cycle(adam, o.learning_rate, steps)


def one_cycle(adam: AdamW, rate: float, steps: int) -> OneCycleLR:
    """Return a cycle that rises for a fifth of the steps; with five, one step of rising would be none to torch."""
    return OneCycleLR(adam, rate, total_steps=steps, pct_start=0.2 if steps != 5 else 0.25)
