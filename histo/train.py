"""Training a tile classifier on annotated slides. The only importer of pytorch_lightning.

`python -m histo.train CONFIG` is `histo train CONFIG`.
"""

import csv
import hashlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

import histo
from histo.config import TrainConfig
from histo.data.manifest import SlideRecord, read_manifest, split_by_patient
from histo.data.sampling import DrawnTiles, LabelledSlide, Sample, draw_epoch, fixed_tiles, keep_decoded, open_labelled
from histo.data.transforms import build_augmentation
from histo.errors import TrainingDiverged, UsageError
from histo.files import write_table, write_text
from histo.infer import load_model, predict_slide
from histo.models.bundle import save_bundle
from histo.models.calibration import fit_temperature
from histo.models.classifier import TileClassifier
from histo.models.engine_torch import flushed_denormals, pick_device

VALIDATION_TILES = 256
LAST = "last"


Say = Callable[[str], None]


def train(config: TrainConfig, out: Path, device: str = "auto", say: Say = lambda line: None) -> Path:
    """Train as the configuration says and return the folder of the bundle, `out/<name>/bundle`.

    `out/<name>/` gets the resolved configuration, the splits, metrics per epoch and the validation slides scored
    by `histo.infer.predict_slide` itself. A run that was stopped goes on from its last epoch; one with another
    configuration is refused. `say` gets a line now and then. Raises `UsageError`, `SlideError` or `TrainingDiverged`.
    """
    run = out / config.name
    classes = config.classes
    records = read_manifest(config.data.manifest, classes.labels)
    train_records, validation_records = split_by_patient(records, config.data.validation_share, config.seed)
    _describe(run, config, train_records, validation_records)
    say(f"{len(train_records)} slides to train on, {len(validation_records)} to validate on")
    # Lightning's own lines (devices found, products offered) say nothing about the run.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    train_slides = keep_decoded([open_labelled(r, config) for r in train_records], run, config.data.cache_gb)
    validation_slides = [open_labelled(r, config) for r in validation_records]
    with flushed_denormals():
        network = _fit(run, config, train_slides, validation_slides, device, say)
    temperature = _calibrate(network, validation_slides, config)
    bundle = run / "bundle"
    card: dict[str, Any] = {
        "name": config.name,
        "intended_use": config.intended_use,
        "classes": classes.model_dump(),
        "tile": config.tile.model_dump(),
        "network": config.network.model_dump(),
        "rule": config.rule.model_dump(),
        "calibration": {
            "temperature": temperature,
            "fitted_on": f"Temperature fitted on map cells of {len(validation_records)} validation slides; "
            "slide-level probabilities are not calibrated.",
        },
        "training": _provenance(config, train_records, validation_records),
    }
    save_bundle(bundle, card, network)
    scores = _score(bundle, validation_records, run, device)
    say(f"validation: {scores['right']} of {scores['slides']} verdicts right, {scores['in_review']} in review")
    card["training"]["validation"] = scores
    save_bundle(bundle, card, network)
    return bundle


class _Training(lightning.LightningModule):
    """One step for training and validation: cross-entropy of score maps against class fractions."""

    def __init__(self, network: TileClassifier, config: TrainConfig, steps: int) -> None:
        super().__init__()
        self.network = network
        self._optimiser, self._steps = config.optimiser, steps

    def _step(self, batch: list[Tensor], stage: str) -> Tensor:
        tiles, fractions, weights = batch
        logits = self.network(tiles.permute(0, 3, 1, 2)).float()
        loss = cell_loss(logits, fractions, weights)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the {stage} loss became {loss.item()} in epoch {self.current_epoch}; lower optimiser.learning_rate"
            )
        hit = (logits.argmax(dim=1) == fractions.argmax(dim=1)).float() * weights
        values = {f"{stage}_loss": loss, f"{stage}_accuracy": hit.sum() / weights.sum().clamp(min=1e-6)}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(tiles))
        return loss

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._step(batch, "training")

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self._step(batch, "validation")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        o = self._optimiser
        adam = torch.optim.AdamW(self.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, o.learning_rate, total_steps=self._steps, pct_start=0.2)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Diary(lightning.Callback):
    """Says one line an epoch, with the time left, and keeps metrics.csv, also over a stop and a new start."""

    def __init__(self, path: Path, say: Say, epochs: int) -> None:
        self._path, self._say, self._epochs = path, say, epochs
        self._started, self._first = time.monotonic(), 0
        self._rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started, self._first = time.monotonic(), trainer.current_epoch
        if self._path.exists():
            with open(self._path, encoding="utf-8", newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= self._first]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        values = {name: f"{float(value):.6g}" for name, value in sorted(trainer.callback_metrics.items())}
        self._rows.append({"epoch": str(done), **values})
        write_table(self._path, list(self._rows[-1]), [list(row.values()) for row in self._rows])
        left = (time.monotonic() - self._started) / (done - self._first) * (self._epochs - done)
        told = ", ".join(f"{name.replace('_', ' ')} {float(value):.3f}" for name, value in values.items())
        self._say(f"epoch {done}/{self._epochs}: {told}; {left / 60:.0f} min left")


def cell_loss(logits: Tensor, fractions: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C, h, w) against soft labels (B, C, h, w), averaged with weights (B, h, w)."""
    loss = -(fractions * logits.log_softmax(dim=1)).sum(dim=1)
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


class _Tiles(lightning.LightningDataModule):
    """Draws new training tiles for every epoch from the epoch's number alone, so that a resumed run draws the same."""

    def __init__(
        self, config: TrainConfig, slides: Sequence[LabelledSlide], validation: Sequence[LabelledSlide]
    ) -> None:
        super().__init__()
        self._config, self._slides, self._validation = config, slides, validation
        self._augment = build_augmentation(config.augment)

    def train_dataloader(self) -> DataLoader[Sample]:
        c = self._config
        epoch = self.trainer.current_epoch if self.trainer else 0
        draws = draw_epoch(self._slides, c.data.tiles_per_epoch, c.data.lesion_share, c.seed, epoch)
        return self._loader(DrawnTiles(self._slides, draws, c.classes.names, self._augment), drop_last=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader(validation_tiles(self._validation, self._config), drop_last=False)

    def _loader(self, tiles: DrawnTiles, drop_last: bool) -> DataLoader[Sample]:
        c = self._config
        # The draws are shuffled already.
        return DataLoader(
            tiles,  # type: ignore[arg-type]  # a sized sequence is all that a loader needs
            batch_size=c.optimiser.batch_size,
            num_workers=c.data.loaders,
            # The store of decoded pixels is shared by fork; later Pythons start workers otherwise.
            multiprocessing_context="fork" if c.data.loaders else None,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
        )


def validation_tiles(slides: Sequence[LabelledSlide], config: TrainConfig) -> DrawnTiles:
    """Return the fixed validation tiles, without augmentation."""
    draws = fixed_tiles(slides, VALIDATION_TILES, config.seed)
    return DrawnTiles(slides, draws, config.classes.names, None)


def _fit(
    run: Path,
    config: TrainConfig,
    slides: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    device: str,
    say: Say,
) -> TileClassifier:
    net = config.network
    network = TileClassifier(
        net.backbone, len(config.classes.names), config.tile.stride_px, net.mean, net.std, net.pretrained
    ).to(memory_format=torch.channels_last)
    epochs, batch = config.optimiser.epochs, config.optimiser.batch_size
    if config.data.tiles_per_epoch < batch:
        raise UsageError("data.tiles_per_epoch must be at least optimiser.batch_size; raise it or lower the batch size")
    module = _Training(network, config, steps=epochs * (config.data.tiles_per_epoch // batch))
    kept = ModelCheckpoint(
        run / "checkpoints", "best", monitor="validation_loss", save_last=True, enable_version_counter=False
    )
    target = pick_device(device)
    on_gpu = target.type == "cuda"
    trainer = lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=[target.index or 0] if on_gpu else 1,
        precision="16-mixed" if on_gpu else "32-true",
        max_epochs=epochs,
        callbacks=[kept, _Diary(run / "metrics.csv", say, epochs)],
        logger=False,
        gradient_clip_val=config.optimiser.gradient_clip,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
    )
    last = run / "checkpoints" / f"{LAST}.ckpt"
    with warnings.catch_warnings():
        # Lightning's advice on loader counts does not hold on two cores.
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
        try:
            trainer.fit(
                module,
                datamodule=_Tiles(config, slides, validation),
                ckpt_path=last if last.exists() else None,
                weights_only=True,
            )
        except SystemExit as end:
            # Lightning turns Ctrl-C into exit code 1; for us it is an interruption like any other.
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    best = torch.load(kept.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(best)
    return network.cpu().eval()


def _calibrate(network: TileClassifier, slides: Sequence[LabelledSlide], config: TrainConfig) -> float:
    """Fit the temperature on the annotated cells of the validation tiles."""
    logits, labels = [], []
    with torch.inference_mode():
        tiles = validation_tiles(slides, config)
        for rgb, fractions, weights in (tiles[i] for i in range(len(tiles))):
            scores = network(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0].numpy()
            used = weights > 0
            logits.append(scores[:, used].T)
            labels.append(fractions[:, used].T)
    return round(fit_temperature(np.concatenate(logits), np.concatenate(labels)), 4)


def _score(bundle: Path, records: Sequence[SlideRecord], run: Path, device: str) -> dict[str, Any]:
    """Score the validation slides with the function that users run; write a row each and return the counts."""
    model = load_model(bundle)
    rows = []
    for r in records:
        result = predict_slide(r.path, model, mpp=r.mpp, device=device, slide_id=r.slide).result
        found = result.verdict.label if result.verdict else "none"
        rows.append([r.slide, r.patient, r.label, found, result.status, ";".join(x.code for x in result.reasons)])
    write_table(run / "validation.csv", ["slide", "patient", "label", "verdict", "status", "reasons"], rows)
    return {
        "slides": len(rows),
        "right": sum(label == found for _, _, label, found, _, _ in rows),
        "in_review": sum(status == "review" for *_, status, _ in rows),
        "note": "These slides chose the best epoch and the temperature; they are no test set.",
    }


def _describe(run: Path, config: TrainConfig, train: Sequence[SlideRecord], validation: Sequence[SlideRecord]) -> None:
    """Write the resolved configuration and the splits; refuse to go on with a run of another configuration or data."""
    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    sides = (("train", train), ("validation", validation))
    rows = [[*_identity(r), side] for side, records in sides for r in records]
    begun = (run / "checkpoints").exists()
    resolved, splits = run / "config.yaml", run / "splits.csv"
    if begun and resolved.read_text(encoding="utf-8") != text:
        raise UsageError(f"{run} holds a run with another configuration; give this one another `name` or move it away")
    if begun and _rows(splits) != rows:
        raise UsageError(f"{run} holds a run on other slides or outlines; give this one another `name` or move it away")
    write_text(resolved, text)
    write_table(splits, ["slide", "patient", "label", "mpp", "bytes", "annotation_sha256", "split"], rows)


def _identity(record: SlideRecord) -> list[str]:
    """Return what pins a labelled slide: a changed outline, scale or file is other training data."""
    outlines = hashlib.sha256(record.annotation.read_bytes()).hexdigest() if record.annotation else ""
    size = str(record.path.stat().st_size)
    return [record.slide, record.patient, record.label, str(record.mpp or ""), size, outlines]


def _rows(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _provenance(config: TrainConfig, train: Sequence[SlideRecord], validation: Sequence[SlideRecord]) -> dict[str, Any]:
    """Return what the card says of how the model was made; no paths, which could name patients."""
    return {
        "histo": histo.__version__,
        "torch": torch.__version__,
        "seed": config.seed,
        "train_slides": len(train),
        "train_patients": len({r.patient for r in train}),
        "validation_slides": len(validation),
        "validation_patients": len({r.patient for r in validation}),
        "data": config.data.model_dump(mode="json", exclude={"manifest"}),
        "augment": config.augment.model_dump(),
        "optimiser": config.optimiser.model_dump(),
    }


if __name__ == "__main__":
    from histo.cli import main

    main(["train", *sys.argv[1:]])
