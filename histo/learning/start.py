"""The network that a training starts from, what of it stays as it is, and its BatchNorm statistics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import SqueezeExcitation

from histo.config import TrainConfig
from histo.data.identities import LEARNT_FROM, STARTED_FROM, Known
from histo.data.records import SlideRecord
from histo.data.sampling import LabelledSlide
from histo.data.synthetic import known_by
from histo.errors import ModelError, UsageError
from histo.learning.diary import Best
from histo.learning.validation import examine
from histo.models.bundle import SHIPPED, Model, load_bundle
from histo.models.classifier import TileClassifier
from histo.timing import Say


@dataclass(frozen=True, eq=False)
class Start:
    """The network that training starts from, channels last, and a sentence on where its weights come from.

    `model` is the model whose trunk it has, if any. It `knows_classes` when the head is that model's too, trained on
    the classes of the configuration.
    """

    network: TileClassifier
    told: str
    model: Model | None = None
    knows_classes: bool = False

    @property
    def has_seen(self) -> Known:
        """All slides and patients that the weights of the model and its own starts learnt from."""
        return Known.by(self.model.card.training if self.model is not None else {}, LEARNT_FROM, STARTED_FROM)

    def knows(self, records: Sequence[SlideRecord]) -> list[SlideRecord]:
        """Return those of the slides that the model learnt from, by their content, or from patients of these names.

        Every cohort of phantoms counts its patients from 0: a phantom's patient says nothing.
        """
        return known_by(self.has_seen, records)


def build_network(config: TrainConfig) -> Start:
    """Return the start that the configuration asks for.

    Raises `UsageError` when the weights cannot be fetched or the bundle doesn't fit the configuration.
    """
    net = config.network
    network = TileClassifier(
        net.backbone, len(config.classes.names), config.tile.stride_px, net.mean, net.std, net.from_imagenet
    )
    _check_tile(network, config)
    start = Start(network, "from pretrained weights of the backbone" if net.from_imagenet else "from random weights")
    if model := start_model(config):
        _check_fit(model, config)
        network.trunk.load_state_dict(model.network.trunk.state_dict())
        start = Start(network, f"from the trunk of {model.card.name} ({model.digest[:12]})", model)
        if model.card.classes.names == config.classes.names:
            network.head.load_state_dict(model.network.head.state_dict())
            told = f"from {model.card.name} ({model.digest[:12]}), trunk and head"
            start = Start(network, told, model, True)
        if config.tile.nuclear_od is not None and model.card.tile.nuclear_od is None:
            start = replace(start, told=f"{start.told}, which knows no tile.nuclear_od")
    if config.averaging.start_share and not start.knows_classes:
        start = replace(start, told=f"{start.told}; the head is new, so averaging.start_share is not used")
    network.to(memory_format=torch.channels_last)
    freeze(network, config)
    return start


def weigh_start(
    start: Start, validation: Sequence[LabelledSlide], config: TrainConfig, best: Best, say: Say
) -> dict[str, float]:
    """Take a start that knows the classes for the best so far, as epoch 0: a training that gains nothing keeps it.

    Return its measures. One that was trained on validation slides or their patients has none, and that is said.
    """
    if not start.knows_classes:
        return {}
    if known := start.knows([s.record for s in validation]):
        say(
            f"the start was trained on {len(known)} of the validation slides or on patients of these names, so no "
            "epoch is compared with it"
        )
        return {}
    start.network.eval()
    measured = examine(start.network, validation, config).measure()
    best.judge(0, measured, start.network.state_dict())
    start.network.train()
    return measured


def _check_tile(network: TileClassifier, config: TrainConfig) -> None:
    """Refuse training tiles of another size for networks that see the whole tile: they would be other functions."""
    whole = any(isinstance(module, SqueezeExcitation) for module in network.trunk.modules())
    if whole and config.learning_spec().size_px != config.tile.size_px:
        raise UsageError(
            f"the backbone {config.network.backbone} squeezes whole tiles, so data.tile_px must be tile.size_px; leave "
            "data.tile_px out"
        )


def start_model(config: TrainConfig) -> Model | None:
    """Return the model that a training starts from, if any; its network is built when it is asked for.

    Raises `UsageError` for a bundle that is none.
    """
    start = config.network.start
    if start in ("random", "imagenet"):
        return None
    try:
        return load_bundle(SHIPPED if start == "shipped" else Path(start), lazy=True)
    except ModelError as error:
        raise UsageError(f"network.start is {start!r}, which is no usable model: {error}") from error


def _check_fit(model: Model, config: TrainConfig) -> None:
    """Refuse a start that was made for other pictures: its weights would mean nothing."""
    card, net = model.card, config.network
    pairs: list[tuple[str, object, object]] = [
        ("network.backbone", net.backbone, card.network.backbone),
        ("tile.stride_px", config.tile.stride_px, card.tile.stride_px),
        ("tile.mpp", config.tile.mpp, card.tile.mpp),
        ("network.mean", list(net.mean), list(card.network.mean)),
        ("network.std", list(net.std), list(card.network.std)),
    ]
    ours, theirs = (tile.model_dump(mode="json") for tile in (config.tile, card.tile))
    for key in ("tissue_od", "nuclear_od"):
        if theirs[key] is not None:  # a model that knew no normalisation learns it quickly
            pairs.append((f"tile.{key}", "not set" if ours[key] is None else ours[key], theirs[key]))
    wrong = [f"{key} is {mine} and the model has {its}" for key, mine, its in pairs if mine != its]
    if wrong:
        raise UsageError(
            f"network.start: {net.start} doesn't fit: {'; '.join(wrong)}; take the model's values or another start"
        )


def freeze(network: TileClassifier, config: TrainConfig) -> None:
    """Keep the part of the trunk that `network.freeze` names from learning."""
    for block in _frozen(network, config.network.freeze):
        block.requires_grad_(False)


def keep_frozen_still(network: TileClassifier, how: str) -> None:
    """Put the frozen blocks in evaluation mode, so that their BatchNorm statistics stay too."""
    for block in _frozen(network, how):
        block.eval()


def _frozen(network: TileClassifier, how: str) -> list[nn.Module]:
    if how == "early":
        return _blocks(network.trunk)[:-1]
    return [network.trunk] if how == "trunk" else []


def _blocks(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a trunk that have weights, in order.

    An encoder of timm is wrapped, and many hold their stages in a part called `blocks`; what follows it is a norm.
    """
    parts = [(name, m) for name, m in module.named_children() if any(True for _ in m.parameters())]
    if len(parts) == 1:
        return _blocks(parts[0][1])
    for k, (name, part) in enumerate(parts):
        if name == "blocks":
            return [*(m for _, m in parts[:k]), *part.children()]
    return [m for _, m in parts]


def measure_batchnorm(network: TileClassifier, batches: Iterable[Tensor], how: str) -> bool:
    """Set BatchNorm's statistics to their plain average over `batches` of tiles (B, 3, S, S); False without any.

    Momentum follows the last few dozen steps only, and under a moving average of the weights the statistics are those
    of other weights. Frozen blocks (`how`) keep theirs.
    """
    still = {id(m) for block in _frozen(network, how) for m in block.modules()}
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and id(m) not in still]
    if not layers:
        return False
    momenta = [m.momentum for m in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the cumulative average
        layer.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
    return True
