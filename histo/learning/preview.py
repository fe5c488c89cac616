"""The dry run: one batch as a picture, and how long and how much memory the training will take."""

import copy
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from histo.config import TrainConfig
from histo.data.sampling import LabelledSlide
from histo.data.transforms import build_augmentation
from histo.errors import UsageError
from histo.learning.bags import LABELLED, Found, StepSample, StepTiles, draw_steps
from histo.learning.calibration import kept_of_start
from histo.learning.diary import judged_blind
from histo.learning.folds import deal_folds
from histo.learning.objective import Objective
from histo.learning.pictures import draw_tiles
from histo.learning.precision import half_precision
from histo.learning.start import Start
from histo.learning.validation import ValidationTiles
from histo.models.classifier import TileClassifier
from histo.timing import Say

TIMED_STEPS = 3
NORMAL_COLOUR = (226, 226, 226)


@dataclass(frozen=True)
class Estimate:
    """What a training will take, as measured on a few steps."""

    seconds_to_read: float
    seconds_to_learn: float
    steps: int
    seconds: float
    peak_gb: float
    picture: Path


def estimate_run(
    run: Path,
    config: TrainConfig,
    slides: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    start: Start,
    device: torch.device,
    processes: int,
    say: Say,
) -> Estimate:
    """Read the first steps, draw the first, time reading and learning on a copy of the network.

    The `processes` that train together share the steps. Says the estimate, and what the model will keep of its start's
    calibration. Raises `UsageError` where no folds can be dealt.
    """
    trainings = 1 + len(deal_folds(config, [s.record for s in (*slides, *validation)], start))
    steps = draw_steps(slides, config, 0, Found({}, {}, {}), (0, processes))
    augment = build_augmentation(config.augment)
    trial = copy.deepcopy(start.network).to(device).train()
    objective = Objective(config, slides)
    reading, learning = [], []
    for number, step in enumerate(steps[:TIMED_STEPS]):
        begun = time.perf_counter()
        tiles = StepTiles(slides, step, config.classes.names, augment)
        samples = [tiles[i] for i in range(len(tiles))]
        reading.append(time.perf_counter() - begun)
        if number == 0:
            picture = _draw(run, config, slides, samples)
        begun = time.perf_counter()
        _learn(trial, objective, samples, config, device)
        learning.append(time.perf_counter() - begun)
    # The first step warms up caches and thread pools.
    read, learn = (float(np.median(times[1:] or times)) for times in (reading, learning))
    checks = len(ValidationTiles(validation, config))
    looks = _scored_tiles(slides, config)
    per_tile = (read + learn / 3) / len(steps[0])  # a forward pass is about a third of a step
    each_step = max(read / max(config.data.loaders, 1), learn) if config.data.loaders else read + learn
    epoch = len(steps) * each_step + (checks + looks) * per_tile
    seconds = epoch * config.optimiser.epochs * trainings
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**30
    found = Estimate(read, learn, len(steps), seconds, peak, picture)
    _tell(found, config, trainings, device, say)
    for warning in judged_blind(config.stop, validation):
        say(f"warning: {warning}")
    say(kept_of_start(start, config)[1] or "The start has no slide scores of these classes to keep.")
    return found


def _scored_tiles(slides: Sequence[LabelledSlide], config: TrainConfig) -> float:
    """Return how many tiles an epoch scores to find strong and hard ones, on average."""
    seen = config.weak.scored_tiles + config.weak.strongest_tiles
    weak = sum(min(len(s.tiles), seen) for s in slides if s.diagnosis_only)
    hard = sum(min(len(s.tiles), config.mining.scored_tiles) for s in slides if not s.diagnosis_only)
    every = config.mining.every_epochs
    return weak / config.weak.refresh_epochs + (hard / every if every else 0)


def _learn(
    network: TileClassifier,
    objective: Objective,
    samples: list[StepSample],
    config: TrainConfig,
    device: torch.device,
) -> None:
    parts = [torch.from_numpy(np.stack([s[i] for s in samples])) for i in range(3)]
    batch = [p.to(device) for p in (*parts, torch.tensor([s[3] for s in samples]))]
    with half_precision(config, device):
        loss, _ = objective(network, batch)
    if not torch.isfinite(loss):
        raise UsageError("the loss of the first batch is no number; look at network.mean and network.std")
    if loss.requires_grad:
        torch.autograd.backward(loss)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _draw(run: Path, config: TrainConfig, slides: Sequence[LabelledSlide], samples: list[StepSample]) -> Path:
    colours = [NORMAL_COLOUR, *(c.colour for c in config.classes.lesions)]
    shown = []
    for rgb, fractions, weights, number in samples:
        if number == LABELLED:
            shown.append((rgb, fractions, weights, "outlined or normal"))
        else:
            record = slides[number].record
            shown.append((rgb, fractions, np.zeros_like(weights), f"{record.slide}: only\n{record.label}"))
    run.mkdir(parents=True, exist_ok=True)
    path = run / "dry_run.png"
    draw_tiles(shown, colours, config.classes.names, path)
    return path


def _and_screen(config: TrainConfig) -> str:
    return f" and the screen's {config.screen.steps} steps" if config.screen.enabled else ""


def _tell(found: Estimate, config: TrainConfig, trainings: int, device: torch.device, say: Say) -> None:
    times = f" x {trainings} trainings" if trainings > 1 else ""
    say(
        f"a step: {found.seconds_to_read:.2f} s to read and augment, {found.seconds_to_learn:.2f} s to learn "
        f"in {config.trainer['precision']}"
    )
    say(
        f"about {found.seconds / 60:.1f} min: {found.steps} steps x {config.optimiser.epochs} epochs{times}, with "
        f"validation; the verdicts on held-out slides{_and_screen(config)} come on top"
    )
    memory = "the GPU's memory" if device.type == "cuda" else "memory"
    say(f"about {found.peak_gb:.1f} GB of {memory}, beside {config.data.loaders} loader(s) of about 0.5 GB each")
    say(f"nothing was trained; the first batch and its labels are in {found.picture}")
