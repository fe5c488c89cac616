"""How much of the network's own speed a training keeps: reading and augmenting must not hold it up.

    python bench/training_speed.py MANIFEST [--config configs/phantom.yaml] [--steps 40] [--set data.loaders=1]

Prints steps per second of the network alone (one batch, again and again), of a whole training (the second of two
epochs, with Lightning, loader and decoded tissue in place), and their ratio; goal 0.85. Other programs on the cores
spoil both, so it also prints CPU time, which they hardly touch: of a network step (all threads) and of reading a step.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as lightning
import torch

import histo.train
from histo.config import TrainConfig, load_config
from histo.data.manifest import read_manifest
from histo.data.sampling import LabelledSlide, keep_decoded, open_labelled
from histo.data.transforms import build_augmentation
from histo.learning.bags import StepTiles, draw_steps
from histo.learning.objective import Objective, make_optimiser
from histo.learning.precision import half_precision, settle_precision
from histo.learning.scouting import nothing_found
from histo.learning.start import build_network
from histo.models.engine_torch import flushed_denormals

GOAL, WARM = 0.85, 3
CPU = torch.device("cpu")
CLOCK = "training_speed.StepClock"


class StepClock(lightning.Callback):
    """Notes when every step of the last epoch ended."""

    ends: list[float] = []  # noqa: RUF012  # Lightning makes the instance; this is how the script reads it

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the epoch before, which decoded the slides."""
        StepClock.ends.clear()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        StepClock.ends.append(time.perf_counter())


def read_steps(slides: list[LabelledSlide], config: TrainConfig, count: int) -> tuple[list[torch.Tensor], float]:
    """Return one step as a batch, and the CPU seconds that reading a step takes once its tissue is decoded."""
    steps = draw_steps(slides, config, 0, nothing_found())[:count]
    augment = build_augmentation(config.augment)
    for _ in range(2):
        start = time.process_time()
        for step in steps:
            tiles = StepTiles(slides, step, config.classes.names, augment)
            samples = [tiles[i] for i in range(len(tiles))]
        seconds = (time.process_time() - start) / len(steps)
    parts = [torch.from_numpy(np.stack([s[i] for s in samples])) for i in range(3)]
    return [*parts, torch.tensor([s[3] for s in samples])], seconds


def network_alone(
    slides: list[LabelledSlide], config: TrainConfig, batch: list[torch.Tensor], steps: int
) -> tuple[float, float]:
    """Return steps per second and CPU seconds a step of forward, backward and optimiser."""
    network = build_network(config).network
    network.train()
    objective = Objective(config, slides)
    adam, _ = make_optimiser(network, config, 1)
    for step in range(WARM + steps):
        if step == WARM:
            begun, cpu = time.perf_counter(), time.process_time()
        with half_precision(config, CPU):
            loss, _ = objective(network, batch)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.gradient_clip)
        adam.step()
    return steps / (time.perf_counter() - begun), (time.process_time() - cpu) / steps


def whole_training(config: TrainConfig, folder: Path) -> float:
    """Return steps per second of the second epoch of `histo train`."""
    import training_speed  # the copy that Lightning's configuration names

    with patch("histo.train.conclude"):  # the report is not measured
        histo.train.train(config, folder, "cpu")
    ends = training_speed.StepClock.ends
    return (len(ends) - 1) / (ends[-1] - ends[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/phantom.yaml"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    own = [f"data.manifest={given.manifest.absolute()}", "optimiser.epochs=2", "stop.tiles_per_slide=1"]
    own += ["mining.every_epochs=0", "screen.enabled=false", f"callbacks=[{{class: {CLOCK}}}]"]
    config = settle_precision(load_config(given.config, [*own, *given.set]), CPU)
    tiles = given.steps * config.optimiser.batch_size
    config = config.model_copy(update={"data": config.data.model_copy(update={"tiles_per_epoch": tiles})})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = read_manifest(config.data.manifest, config.classes.labels)
        slides = keep_decoded([open_labelled(r, config) for r in records], folder, config.data.cache_gb)
        batch, reading = read_steps(slides, config, given.steps)
        with flushed_denormals():
            alone, learning = network_alone(slides, config, batch, given.steps)
        whole = whole_training(config, folder)
    print(f"computed in {config.trainer['precision']}")
    print(f"{len(batch[0])} tiles of {batch[0].shape[1]} px a step, {given.steps} steps, loaders {config.data.loaders}")
    print(f"load of the machine {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    print(f"CPU time a step: network {learning * 1e3:.0f} ms, reading {reading * 1e3:.0f} ms")
    print(f"steps per second: network alone {alone:.2f}, training {whole:.2f}")
    print(f"share of the network's speed: {whole / alone:.2f} (goal {GOAL})")


if __name__ == "__main__":
    main()
