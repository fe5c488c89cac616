"""Training a tile classifier on labelled slides. The only importer of pytorch_lightning.

`python -m histo.train CONFIG` is `histo train CONFIG`.
"""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

from histo.config import TrainConfig
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.data.sampling import LabelledSlide, keep_decoded, open_all
from histo.data.splits import split_by_patient
from histo.data.transforms import build_augmentation
from histo.errors import TrainingDiverged, UsageError
from histo.files import whole
from histo.learning.addons import build_add_on, check_add_ons, check_trainer_options, told_by_name
from histo.learning.bags import StepSample, StepTiles, draw_steps
from histo.learning.conclusion import conclude, held_out_by_folds
from histo.learning.diary import Best, Diary
from histo.learning.finish import settle_batchnorm, write_bundle
from histo.learning.folds import check_processes
from histo.learning.interrupt import Interrupt
from histo.learning.kept import Kept
from histo.learning.loading import load
from histo.learning.losses import cell_loss
from histo.learning.objective import Objective, check_lessons, make_optimiser
from histo.learning.precision import settle_precision
from histo.learning.preview import Estimate, estimate_run
from histo.learning.run_folder import BUNDLE, LAST, UNFINISHED, alone, begun_with, describe_run, is_finished
from histo.learning.scouting import from_state, look_over, nothing_found, to_state
from histo.learning.screening import add_to_run
from histo.learning.start import Start, build_network, keep_frozen_still, weigh_start
from histo.learning.validation import Meters, ValidationSample, ValidationTiles
from histo.models.classifier import TileClassifier
from histo.models.engine_torch import flushed_denormals, pick_device
from histo.timing import Say


def train(config: TrainConfig, out: Path, device: str = "auto", say: Say = lambda line: None) -> Path:
    """Train as the configuration says and return the folder of the bundle, `out/<name>/bundle`.

    `out/<name>/` gets the resolved configuration, splits, metrics per epoch, pictures, a report, and held-out slides
    scored by `histo.infer.predict_slide` itself. A stopped run goes on from its last epoch, a finished one stays as it
    is; another configuration or process is refused. Raises `HistoError`: usage, archive, slide, or `TrainingDiverged`.
    """
    run = out / config.name
    train_records, validation_records = _sides(config, say)
    with alone(run):
        config = settle_precision(config, pick_device(device), begun_with(run), is_finished(run))
        describe_run(run, config, {"train": train_records, "validation": validation_records})
        if is_finished(run):
            say(f"{run} is finished; give another `name` to train once more")
            return run / BUNDLE
        say(f"{len(train_records)} slides to train on, {len(validation_records)} to validate on")
        if find_spec("tensorboard") is None:
            say("TensorBoard is not installed (pip install tensorboard); metrics go to metrics.csv only")
        opened, validation = (open_all(side, config, say) for side in (train_records, validation_records))
        trained = keep_decoded(opened, run, config.data.cache_gb)
        check_lessons(trained, config.loss, say)

        def fit_fold(folder: Path, learn: Sequence[LabelledSlide], validate: Sequence[LabelledSlide]) -> Path:
            return _make_bundle(_Job(folder, config, learn, validate, device, say), folder / BUNDLE)

        held = held_out_by_folds(run, config, [*trained, *validation], fit_fold, device, say)
        bundle = _make_bundle(_Job(run, config, trained, validation, device, say), run / UNFINISHED)
        add_to_run(bundle, config, trained, validation, say)
        conclude(run, config, trained, validation, held, device, say)
        return run / BUNDLE


def dry_run(config: TrainConfig, out: Path, device: str = "auto", say: Say = lambda line: None) -> Estimate:
    """Read one batch, draw it with its labels to `out/<name>/dry_run.png`, and estimate time and memory.

    Trains and keeps nothing; the run's folder stays free for any configuration. Raises like `train`.
    """
    config = settle_precision(config, pick_device(device))
    learn, validate = (open_all(side, config, say) for side in _sides(config, say))
    check_lessons(learn, config.loss, say)
    processes = _trainer(config, device, [], []).world_size
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    start = build_network(config)
    say(f"{len(learn)} slides to train on, {len(validate)} to validate on; starting {start.told}")
    return estimate_run(out / config.name, config, learn, validate, start, pick_device(device), processes, say)


def _sides(config: TrainConfig, say: Say) -> tuple[list[SlideRecord], list[SlideRecord]]:
    """Check what a configuration asks of Lightning, and return the slides to train and to validate on."""
    check_trainer_options(config.trainer, lightning.Trainer)
    check_add_ons(config.callbacks, lightning.Callback, "callbacks")
    check_add_ons(config.loggers, Logger, "loggers")
    records = read_manifest(config.data.manifest, config.classes.labels, say)
    return split_by_patient(records, config.data.validation_share, config.seed)


@dataclass(frozen=True)
class _Job:
    """One training: where it goes, and the slides to learn from and to validate on."""

    folder: Path
    config: TrainConfig
    train: Sequence[LabelledSlide]
    validation: Sequence[LabelledSlide]
    device: str
    say: Say


def _make_bundle(job: _Job, bundle: Path) -> Path:
    """Train, settle BatchNorm and save the bundle of one job; a bundle is the same however often this is repeated."""
    lightning.seed_everything(job.config.seed, workers=True, verbose=False)
    with flushed_denormals():
        start = build_network(job.config)
        job.say(f"starting {start.told}, in {job.config.trainer.get('precision')}")
        if best_epoch := _fit(job, start):
            settle_batchnorm(start.network, job.train, job.validation, job.config, job.say)
    card = write_bundle(bundle, job.config, job.train, job.validation, start, best_epoch)
    job.say(f"calibration: {card['calibration']['fitted_on']}")
    return bundle


class _Training(lightning.LightningModule):
    """The step: cells against outlines, bags against diagnoses; and the measures of every epoch."""

    def __init__(
        self,
        start: Start,
        config: TrainConfig,
        slides: Sequence[LabelledSlide],
        validation: Sequence[LabelledSlide],
    ) -> None:
        super().__init__()
        self.network, self.kept = start.network, Kept(start, config.averaging)
        self.starts_knowing = start.knows_classes
        self._config, self._validation = config, validation
        self.objective = Objective(config, slides)
        self._meters = Meters(validation, config.classes)

    @property
    def scored(self) -> TileClassifier:
        """The network that is validated and kept."""
        return self.kept.settled(self.network)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        # Dropout draws from torch's generator, which no checkpoint keeps: every step starts it anew.
        torch.manual_seed(((self._config.seed * 65_537 + self.current_epoch) * 65_537 + index) % 2**63)
        loss, values = self.objective(self.network, batch)
        self._check(loss, "training")
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def on_train_epoch_start(self) -> None:
        keep_frozen_still(self.network, self._config.network.freeze)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.kept.follow(self.network)

    def on_validation_epoch_start(self) -> None:
        self.kept.settle(self.network)
        self._meters = Meters(self._validation, self._config.classes)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        tiles, fractions, weights, tissue, numbers = batch
        with torch.autocast(self.device.type, enabled=False):  # as the start was, and as the bundle is scored
            logits = self.scored(tiles.permute(0, 3, 1, 2)).float()
        self._check(cell_loss(logits, fractions, weights), "validation")
        self._meters.add(numbers, logits, fractions, weights, tissue)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self._meters.measure())

    def _check(self, loss: Tensor, stage: str) -> None:
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the {stage} loss became {loss.item()} in epoch {self.current_epoch}; lower optimiser.learning_rate"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        together = self.trainer.world_size * self.trainer.accumulate_grad_batches
        adam, schedule = make_optimiser(self.network, self._config, together)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Keeper(lightning.callbacks.Checkpoint):
    """Keeps the diary and the best weights, and the checkpoint of an epoch: after all other callbacks had their say."""

    def __init__(self, job: "_Job") -> None:
        self.diary = Diary(job.folder / "metrics.csv", job.say, job.config.optimiser.epochs)
        self.best, self._path = Best(job.config.stop), job.folder / LAST
        self.interrupt = Interrupt()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.state, "rows": self.diary.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "rows" not in state_dict:
            raise UsageError(f"{self._path} is of an earlier version of histo; give another `name`, or move it away")
        self.best.state = state_dict["best"]
        self.diary.restore(state_dict["rows"])

    def was_over(self, checkpoint: Path, epochs: int) -> bool:
        """Tell whether a run had come to its end, and take its best weights then: nothing is left to train."""
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = kept["callbacks"][self.state_key]
        if int(kept["epoch"]) + 1 >= epochs or ("rows" in state and state["best"]["stopped"]):
            self.load_state_dict(state)
            return True
        return False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.diary.begin(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.diary.step(trainer.current_epoch, batch_idx + 1, int(trainer.num_training_batches))
        self.interrupt.heed()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, _Training)
        metrics, done = trainer.callback_metrics, trainer.current_epoch + 1
        trainer.should_stop |= self.best.judge(done, metrics, pl_module.scored.state_dict())
        self.best.state["stopped"] = trainer.should_stop  # a callback of the user's may end it, too
        self.diary.note(done, metrics)
        trainer.save_checkpoint(self._path)  # first: whoever stops a training at the line of an epoch keeps that epoch
        if trainer.is_global_zero:
            self.diary.end(done)
        self.interrupt.heed()


class _WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint so that a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class _Tiles(lightning.LightningDataModule):
    """Draws new training tiles for every epoch from the epoch's number and what the network found before it."""

    def __init__(self, job: _Job) -> None:
        super().__init__()
        self._job, self._augment, self._found = job, build_augmentation(job.config.augment), nothing_found()
        self._is_on_gpu = pick_device(job.device).type == "cuda"

    def state_dict(self) -> dict[str, Any]:
        return to_state(self._found)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._found = from_state(state_dict)

    def train_dataloader(self) -> DataLoader[StepSample]:
        c, slides, trainer = self._job.config, self._job.train, self.trainer
        assert trainer is not None
        module = trainer.lightning_module
        assert isinstance(module, _Training)
        self._found = look_over(module.scored, slides, c, trainer.current_epoch, self._found, module.starts_knowing)
        steps = draw_steps(slides, c, trainer.current_epoch, self._found, (trainer.global_rank, trainer.world_size))
        numbers = iter(range(sum(map(len, steps))))
        tiles = StepTiles(slides, [tile for step in steps for tile in step], c.classes.names, self._augment)
        batches = [[next(numbers) for _ in step] for step in steps]
        return load(tiles, c.data.loaders, self._is_on_gpu, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[ValidationSample]:
        c = self._job.config
        tiles = ValidationTiles(self._job.validation, c)
        return load(tiles, c.data.loaders, self._is_on_gpu, batch_size=c.optimiser.batch_size)


def _loggers(job: _Job) -> list[Logger]:
    loggers: list[Logger] = [build_add_on(a, Logger, "loggers") for a in job.config.loggers]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(job.folder, name="", version="tensorboard"))
    return loggers


def _trainer(
    c: TrainConfig, device: str, callbacks: list[lightning.Callback], loggers: list[Logger]
) -> lightning.Trainer:
    """Return Lightning's trainer. Raises `UsageError` for options in `trainer` that it does not take."""
    # Lightning's own lines (devices found, products offered) say nothing about the run.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    target = pick_device(device)
    on_gpu = target.type == "cuda"
    ours = {"enable_progress_bar": sys.stdout.isatty(), "log_every_n_steps": 1}
    options: dict[str, Any] = {"devices": [target.index or 0] if on_gpu else 1, **ours, **c.trainer}
    try:
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            max_epochs=c.optimiser.epochs,
            callbacks=callbacks,
            logger=loggers or False,
            plugins=[_WholeCheckpoints()],
            gradient_clip_val=c.optimiser.gradient_clip,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            enable_model_summary=False,
            **options,
        )
    except Exception as error:  # Lightning raises whatever an option that it does not check leads to
        raise UsageError(f"`trainer` {dict(c.trainer)} doesn't work: {' '.join(str(error).split())}") from error
    check_processes(c, trainer.world_size)
    return trainer


def _fit(job: _Job, start: Start) -> int:
    """Train to the end, from the last finished epoch; leave the best weights in the network and return their epoch."""
    network, last, keeper = start.network, job.folder / LAST, _Keeper(job)
    module = _Training(start, job.config, job.train, job.validation)
    with warnings.catch_warnings():
        # Lightning's advice on loader counts does not hold on two cores.
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
        own = [build_add_on(a, lightning.Callback, "callbacks") for a in job.config.callbacks]
        trainer = _trainer(job.config, job.device, [*own, keeper], _loggers(job))
        if begun := last if last.exists() else None:
            job.say("going on from the last finished epoch")
        measured = {} if begun else weigh_start(start, job.validation, job.config, keeper.best, job.say)
        if measured and trainer.is_global_zero:
            keeper.diary.before(measured)
        if begun is None or not keeper.was_over(begun, job.config.optimiser.epochs):
            with keeper.interrupt, told_by_name(own, "callbacks"):
                trainer.fit(module, datamodule=_Tiles(job), ckpt_path=begun, weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit(0)  # the first process alone writes the bundle and the report
    network.cpu().load_state_dict(keeper.best.state["weights"])
    network.eval()
    return int(keeper.best.state["best_epoch"])


if __name__ == "__main__":
    from histo.cli import main

    main(["train", *sys.argv[1:]])
