"""The screen of a model: trained on the same slides at a coarse scale, its threshold chosen on the validation slides.

It is trained anew whenever it is asked for: a stopped run costs the few minutes that it takes. The same slides,
configuration and number of threads give the same screen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader

from histo.config import NetworkConfig, TileConfig, TrainConfig
from histo.data.sampling import LabelledSlide, draw_epoch, keep_decoded, with_tiles
from histo.data.stain import jitter_stain
from histo.data.tiles import TileDataset, stream_batches
from histo.data.transforms import build_augmentation
from histo.errors import TrainingDiverged
from histo.geometry import TileGrid, TileSpec, lay_tiles, map_grid_for, rebin
from histo.learning.loading import load
from histo.learning.objective import one_cycle
from histo.learning.screen_threshold import choose_threshold, measure, stake_of
from histo.learning.screen_tiles import ScreenTiles
from histo.models.bundle import Model, load_bundle, rewrite
from histo.models.classifier import TileClassifier
from histo.models.engine_torch import flushed_denormals
from histo.models.screen import LESION, Missed, followed, strongest
from histo.models.stitching import Stitcher
from histo.timing import Say

Look = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # a tile (S, S, 3) as it is shown

BACKBONE = "compact"
TRAIN_CELLS, TRAIN_MARGIN_CELLS = 24, 3  # of a training tile
SIZE_CELLS, MARGIN_CELLS = 64, 6  # of a tile of inference; the margin is half of what a cell of `compact` sees
PARTS = 2  # the network's tiles are shown in so many windows by so many
SOFTER = {"stain": 0.7, "rescan": 0.5, "grey": 0.5}  # of the augmentation of training: a small network bears less
OTHER_STAIN = 0.5  # of the jitter of training: what normalisation leaves between laboratories
SPECK = 0.02  # a cell with less of a lesion need not be found
TOLD_EVERY = 200


def add_screen(
    model: Model, out: Path, config: TrainConfig, learn: Sequence[LabelledSlide], validate: Sequence[LabelledSlide],
    say: Say = lambda line: None,
) -> Missed | None:  # fmt: skip
    """Train a screen, choose its threshold, and save the model with it as the bundle `out`.

    Returns what the threshold misses on `validate`, or None, with a line for `say`, where no lesion is outlined to
    learn from or to choose by, or the model finds none of them: a screen of unknown miss rate is none. Raises
    `TrainingDiverged`.
    """
    outlined = [[s for s in side if not s.diagnosis_only] for side in (learn, validate)]
    if not all(any(s.class_cells[:, 1:].any() for s in side) for side in outlined):
        say("no screen: no lesion is outlined on the slides to train on, or none on those to validate on")
        return None
    learn, validate = outlined
    with flushed_denormals():
        network = learn_screen(model, config, learn, out.parent, say)
        parts = parts_of(model)
        threshold, missed = fit_threshold(network, model, config, validate, parts)
    if not missed.lesion_mm2:
        say("no screen: the network finds no lesion on the slides to validate on, so nothing tells what it would miss")
        return None
    told = words_of(missed, config.screen.stains)
    section = {
        "tile": inference_tile(config).model_dump(),
        "network": _network_config(config).model_dump(),
        "threshold": threshold,
        "parts": parts,
        "fitted_on": told,
        "missed": missed.model_dump(),
    }
    rewrite(model, out, {"screen": section}, screen=network)
    say(told)
    return missed


def add_to_run(
    bundle: Path, config: TrainConfig, learn: Sequence[LabelledSlide], validate: Sequence[LabelledSlide], say: Say
) -> None:
    """Give the bundle of a run its screen, if the configuration asks for one."""
    if config.screen.enabled:
        say(f"training the screen: {config.screen.steps} steps at {config.screen.mpp:g} µm per pixel")
        add_screen(load_bundle(bundle), bundle, config, learn, validate, say)


def words_of(missed: Missed, stains: int) -> str:
    """Return what the threshold was chosen on and what it misses there, in sentences."""
    low, high = (100 * share for share in missed.missed_share_interval)
    least, most = (100 * share for share in missed.deposits_missed_interval)
    views, anywhere = (f" and in {stains} made-up stains", "in some stain ") if stains else ("", "")
    return (
        f"The screen's threshold was chosen on {missed.slides} validation slides of {missed.patients} patients, each "
        f"as it is{views}. There it passes over {100 * missed.missed_share:.2f} % (95 % interval {low:.2f} to "
        f"{high:.2f} %) of {missed.lesion_mm2:.2f} mm² of lesion that the network finds when it looks at everything, "
        f"and {anywhere}{missed.deposits_missed} of {missed.deposits} deposits of {missed.deposit_um:g} µm or more "
        f"({least:.1f} to {most:.1f} %), none on the slide as it is; the network looks at "
        f"{100 * missed.shown_share:.0f} % of the tissue. These slides chose the threshold, so they are no test set."
    )


def inference_tile(config: TrainConfig) -> TileConfig:
    """Return the tiles that the screen is shown at inference."""
    stride = config.screen.stride_px
    return TileConfig(
        size_px=SIZE_CELLS * stride,
        mpp=config.screen.mpp,
        stride_px=stride,
        margin_px=MARGIN_CELLS * stride,
        tissue_od=config.tile.tissue_od,
        nuclear_od=config.tile.nuclear_od,
    )


def learn_screen(
    model: Model, config: TrainConfig, slides: Sequence[LabelledSlide], folder: Path, say: Say
) -> TileClassifier:
    """Train the network of a screen, from the model's own weights where they fit; returns it in evaluation mode.

    Raises `TrainingDiverged`.
    """
    c, stride = config.screen, config.screen.stride_px
    spec = TileSpec(TRAIN_CELLS * stride, c.mpp, stride, TRAIN_MARGIN_CELLS * stride)
    coarse = keep_decoded([with_tiles(s, spec, config.classes.names) for s in slides], folder, config.data.cache_gb)
    torch.manual_seed(config.seed)
    net = _network_config(config)
    network = TileClassifier(net.backbone, LESION + 1, stride, net.mean, net.std)
    if not start_from(network, model.network):
        say("the screen starts from random weights, which teaches it less: the model's network is no `compact` one")
    network = network.to(memory_format=torch.channels_last).train()
    adam = AdamW(network.parameters(), lr=c.learning_rate, weight_decay=config.optimiser.weight_decay)
    cycle = one_cycle(adam, c.learning_rate, c.steps)
    total = 0.0
    for step, (tiles, fractions, weights) in enumerate(_batches(coarse, config, folder), start=1):
        loss = screen_loss(network(tiles.permute(0, 3, 1, 2)), fractions, weights, c.lesion_weight)
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the screen's loss became {loss.item()}; lower screen.learning_rate")
        adam.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.gradient_clip)
        adam.step()
        cycle.step()
        total += float(loss.detach())
        if step % TOLD_EVERY == 0:
            say(f"screen: step {step}/{c.steps}, loss {total / TOLD_EVERY:.4f}")
            total = 0.0
    return network.eval()


def start_from(screen: TileClassifier, network: TileClassifier) -> bool:
    """Give a screen's trunk the weights of a network's where both have the same ones: colours have no scale.

    Tells whether there were any. From random weights 1500 steps teach a screen next to nothing.
    """
    own, theirs = screen.trunk.state_dict(), network.trunk.state_dict()
    shared = {name for name in own if name in theirs and own[name].shape == theirs[name].shape}
    screen.trunk.load_state_dict({name: theirs[name] if name in shared else own[name] for name in own})
    return bool(shared)


def screen_loss(logits: Tensor, fractions: Tensor, weights: Tensor, lesion_weight: float) -> Tensor:
    """Cross-entropy of logits (B, 2, h, w) against whether a cell holds any lesion; such cells weigh `lesion_weight`.

    `fractions` (B, C, h, w) are those of the model's classes, the normal one first; `weights` (B, h, w).
    """
    wanted = (1 - fractions[:, 0] >= SPECK).long()
    loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
    weights = weights * (1 + (lesion_weight - 1) * wanted)
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


def parts_of(model: Model) -> int:
    """Return into how many windows a side a model's tiles may be divided: 1 where a score needs all of a tile."""
    tile = model.card.tile.spec()
    if tile.kept_cells % PARTS:
        return 1
    plain = torch.full((1, 3, tile.size_px, tile.size_px), 200, dtype=torch.uint8)
    other = plain.clone()
    other[..., 3 * tile.size_px // 4 :] = 100
    with torch.inference_mode():
        near = [model.network(one)[..., : tile.margin_cells + 1] for one in (plain, other)]
    return PARTS if torch.equal(*near) else 1


def fit_threshold(
    screen: TileClassifier, model: Model, config: TrainConfig, slides: Sequence[LabelledSlide], parts: int
) -> tuple[float, Missed]:
    """Return the threshold of a screen and what it misses on slides, each seen as it is and in other stains.

    What the model itself does not find when it is shown everything is no loss of the screen's. Deposits hold the
    threshold down on the slide as it is: in other stains, which are made up, the area does.
    """
    c, stakes, bound, scores = config.screen, [], [], []
    for number, slide in enumerate(slides):
        laid = with_tiles(slide, config.tile.spec(), config.classes.names)
        windows = replace(laid, tiles=laid.tiles.split(laid.slide.pyramid, parts, laid.tissue))
        for view in range(c.stains + 1):
            look = _stained(config, (config.seed * 1009 + number) * 101 + view) if view else _as_it_is
            found = found_by(model, laid, look)
            stakes.append(stake_of(windows, config.classes, found))
            bound.append(replace(stakes[-1], deposits={}) if view else stakes[-1])
            own = scores_of(screen, windows, inference_tile(config).spec(), look)
            scores.append(followed(own, found, windows.tiles, windows.tissue))
    threshold = choose_threshold(bound, scores, c.most_missed)
    return threshold, measure(stakes, scores, threshold, config.seed)


def found_by(model: Model, slide: LabelledSlide, look: Look) -> NDArray[np.bool_]:
    """Return the cells (H, W) of the slide map in which the model sees a lesion of any class."""
    probability = _map(model.network, slide, slide.tiles, look, model.card.calibration.temperature).probability
    return np.asarray(probability[1:].max(axis=0) >= model.card.rule.grow, bool)


def scores_of(network: TileClassifier, slide: LabelledSlide, spec: TileSpec, look: Look) -> NDArray[np.float32]:
    """Return what the screen says of every tile (N,) of a slide, see `models.screen.strongest`."""
    grid, _ = map_grid_for(slide.slide.pyramid, spec)
    coarse = lay_tiles(slide.slide.pyramid, spec, rebin(slide.tissue, slide.tiles.map_grid, grid))
    seen = _map(network, slide, coarse, look)
    return strongest(seen.probability[LESION], seen.valid, grid, slide.tiles, slide.tissue)


def _map(
    network: TileClassifier, slide: LabelledSlide, tiles: TileGrid, look: Look, temperature: float = 1.0
) -> Stitcher:
    stitcher = Stitcher(tiles, network.head.out_channels)
    for batch in stream_batches(TileDataset.of(slide.normalised, tiles), 1, 2):
        if len(batch.rgb):
            rgb = torch.from_numpy(np.stack([look(tile) for tile in batch.rgb]))
            with torch.inference_mode():
                logits = network(rgb.permute(0, 3, 1, 2)).float()
            stitcher.add(batch.indices, (logits / temperature).softmax(dim=1).numpy())
    return stitcher


def _as_it_is(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return tile


def _stained(config: TrainConfig, seed: int) -> Look:
    """Return what stains tiles anew, all of a slide alike."""
    strength = config.augment.stain * (OTHER_STAIN if config.tile.tissue_od else 1.0)
    return lambda tile: jitter_stain(tile, strength, config.augment.grain, seed)


def _network_config(config: TrainConfig) -> NetworkConfig:
    return NetworkConfig(backbone=BACKBONE, mean=config.network.mean, std=config.network.std)


def _batches(slides: Sequence[LabelledSlide], config: TrainConfig, folder: Path) -> "DataLoader[Any]":
    c = config.screen
    draws = draw_epoch(slides, c.steps * c.batch_size, config.data.lesion_share, config.seed, 0)
    softer = {name: share * getattr(config.augment, name) for name, share in SOFTER.items()}
    augmentation = build_augmentation(config.augment.model_copy(update=softer))
    tiles: Any = ScreenTiles(slides, draws, config.classes.names, augmentation, folder)
    return load(tiles, config.data.loaders, batch_size=c.batch_size)
