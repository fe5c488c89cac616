"""From a trained network to a bundle: BatchNorm measured anew, temperature, card."""

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from histo.config import TrainConfig
from histo.data.identities import CALIBRATED_ON, LEARNT_FROM, START_CALIBRATED_ON, STARTED_FROM, Known, identities
from histo.data.sampling import LabelledSlide
from histo.data.slide_file import sha256_of
from histo.data.synthetic import known_by
from histo.data.transforms import build_augmentation
from histo.errors import UsageError
from histo.infer import load_model
from histo.learning.bags import Found, StepTiles, draw_steps
from histo.learning.calibration import calibration_of
from histo.learning.run_folder import provenance
from histo.learning.start import Start, measure_batchnorm
from histo.learning.validation import Meters, examine
from histo.models.bundle import rewrite, save_bundle
from histo.models.classifier import TileClassifier
from histo.reference import SETS_LEFT, fit_reference, put
from histo.timing import Say


def settle_batchnorm(
    network: TileClassifier,
    slides: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    config: TrainConfig,
    say: Say,
) -> None:
    """Measure BatchNorm's statistics anew on training tiles, keep them if the validation patients agree, and say so.

    Nothing happens when the configuration doesn't ask for it.
    """
    steps = config.averaging.batchnorm_steps
    if steps == 0:
        return
    before = examine(network, validation, config).patients.measure()["patient_loss"]
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    augment = build_augmentation(config.augment)
    # The epoch after the last one was never drawn.
    drawn = draw_steps(slides, config, config.optimiser.epochs, Found({}, {}, {}))[:steps]

    def batches() -> Any:
        for step in drawn:
            tiles = StepTiles(slides, step, config.classes.names, augment)
            yield torch.stack([_channels_first(tiles[i][0]) for i in range(len(tiles))])

    if not measure_batchnorm(network, batches(), config.network.freeze):
        say("the backbone has no BatchNorm that learns; nothing was measured anew")
        return
    after = examine(network, validation, config).patients.measure()["patient_loss"]
    if after > before:
        network.load_state_dict(kept)
        say(f"BatchNorm measured anew on {len(drawn)} steps was worse ({before:.3f} to {after:.3f}) and is not used")
    else:
        say(f"BatchNorm measured anew on {len(drawn)} steps (patient loss {before:.3f} to {after:.3f})")


def _channels_first(rgb: np.ndarray) -> Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1)


def card_of(
    config: TrainConfig,
    train: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    found: Meters,
    start: Start,
    best_epoch: int,
) -> dict[str, Any]:
    """Return the card of a trained network, without what `save_bundle` adds."""
    weak = sum(s.diagnosis_only for s in train)
    training = provenance(config, [s.record for s in train], [s.record for s in validation], weak)
    slides = [s.record for s in (*train, *validation)]
    training[LEARNT_FROM] = identities([_content(r.path) for r in slides], [r.patient for r in slides])
    calibration = calibration_of(found.cells, validation, config, start, best_epoch)
    how = {"started": start.told, "best_epoch": best_epoch, "validation_patients_measured": found.measure()}
    if start.model is not None and calibration.slides is not None:  # it is the start's
        training[CALIBRATED_ON] = training[START_CALIBRATED_ON] = start.model.card.training.get(CALIBRATED_ON, {})
    return {
        "name": config.name,
        "intended_use": f"{config.intended_use} {_use_of_start(start)}".rstrip(),
        "classes": config.classes.model_dump(),
        "tile": config.tile.model_dump(),
        "network": config.network.for_card(),
        "rule": config.rule.model_dump(),
        "calibration": calibration.model_dump(mode="json"),
        "training": {**training, **how, STARTED_FROM: start.has_seen.for_card()},
    }


def _use_of_start(start: Start) -> str:
    """Return what the model that a training started from was meant for: its limits may be those of this one, too."""
    return f"Started from {start.model.card.name}: {start.model.card.intended_use}" if start.model is not None else ""


def _content(path: Path) -> str:
    status = path.stat()
    return _hashed(path, status.st_size, status.st_mtime_ns)


@cache
def _hashed(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)  # folds name the same slides over and over


def write_bundle(
    folder: Path,
    config: TrainConfig,
    train: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    start: Start,
    best_epoch: int,
) -> dict[str, Any]:
    """Calibrate what `start` has become in a training, save it with its card and return the card."""
    found = examine(start.network, validation, config)
    shutil.rmtree(folder, ignore_errors=True)  # a stopped run may have left parts of one
    card = card_of(config, train, validation, found, start, best_epoch)
    save_bundle(folder, card, start.network)
    return card


def add_reference(
    bundle: Path,
    train: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    device: str,
    say: Say,
) -> None:
    """Fit what foreign tissue is told by on the slides of a training, and write it into the bundle.

    The limit comes from the validation slides, without those that the start of the training had learnt from.
    """
    model = load_model(bundle)
    checked = [s.record for s in validation]
    known = known_by(Known.by(model.card.training, STARTED_FROM), checked)
    learnt = [*(s.record for s in train), *known]
    try:
        reference, arrays = fit_reference(model, [r for r in checked if r not in known], learnt, device, say)
    except UsageError as error:
        say(f"warning: foreign tissue will not be told: {error}")
        # No gate is a gate that lets all pass.
        rewrite(model, bundle, {"calibration": model.card.calibration.without_sets().model_dump(mode="json")})
    else:
        say(f"foreign tissue is told by {reference.fitted_on}")
        put(bundle, model, reference, arrays)
    if model.card.calibration.conformal is not None:
        say(SETS_LEFT)
