"""`histo screen`: gives a model that was made before, or elsewhere, a screen learnt from a manifest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from histo.config import TrainConfig
from histo.data.identities import LEARNT_FROM, Known, identities
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.data.sampling import open_labelled
from histo.data.slide_file import sha256_of
from histo.data.splits import split_by_patient
from histo.errors import ModelError, UsageError
from histo.learning.screening import add_screen
from histo.models.bundle import Model, ModelCard, load_bundle, refuse_to_overwrite
from histo.timing import Say


def screen_bundle(bundle: Path, manifest: Path, out: Path, steps: int | None = None, say: Say = lambda s: None) -> None:
    """Train a screen for the model in `bundle` on the slides of a manifest, and save both as the bundle `out`.

    Patients are dealt as in the model's own training (its seed and share), and classes, stains and aliases are its too.
    Raises `UsageError`, for an `out` that holds a model too, `ModelError`, `SlideError` or `TrainingDiverged`.
    """
    refuse_to_overwrite(out)
    model = load_bundle(bundle)
    config = config_of(model.card, manifest, steps)
    records = read_manifest(manifest, config.classes.labels, say)
    learn, validate = (
        [open_labelled(r, config) for r in side]
        for side in split_by_patient(records, config.data.validation_share, config.seed)
    )
    say(f"{len(learn)} slides to train the screen on, {len(validate)} to choose its threshold by")
    out.parent.mkdir(parents=True, exist_ok=True)
    model = _that_learnt_from(model, [s.record for s in (*learn, *validate)], config)
    if add_screen(model, out, config, learn, validate, say) is None:
        raise UsageError(
            f"{manifest} outlines no lesion on the slides to train on or on those to validate on, so no screen can be "
            "made; outline some lesions, or name the slides in the column split"
        )


def _that_learnt_from(model: Model, records: Sequence[SlideRecord], config: TrainConfig) -> Model:
    """Return the model with slides among those that its card says it learnt from: nobody may judge it by them.

    The card says how the screen was trained, too.
    """
    own = identities([sha256_of(r.path) for r in records], [r.patient for r in records])
    training = model.card.training
    told = {"screen": config.screen.model_dump(mode="json")}
    known = {LEARNT_FROM: Known.by({**training, "screen": own}, LEARNT_FROM, "screen").for_card()}
    return replace(model, card=model.card.model_copy(update={"training": {**training, **told, **known}}))


def config_of(card: ModelCard, manifest: Path, steps: int | None = None) -> TrainConfig:
    """Return the configuration that the card's training had, as far as a screen needs it. Raises `ModelError`."""
    told = card.training
    data = {k: v for k, v in told.get("data", {}).items() if k in ("aliases", "unannotated", "validation_share")}
    screen: dict[str, Any] = {**told.get("screen", {}), "enabled": True} | ({"steps": steps} if steps else {})
    try:
        return TrainConfig.model_validate(
            {
                "name": "screen",
                "seed": told.get("seed", 0),
                "intended_use": card.intended_use,
                "classes": card.classes.model_dump(),
                "data": {**data, "manifest": manifest, "loaders": 1},
                "tile": card.tile.model_dump(),
                "network": card.network.model_dump(exclude={"pretrained"}),
                "augment": told.get("augment", {}),
                "screen": screen,
            }
        )
    except ValueError as error:
        raise ModelError(f"the card of {card.name} tells of a training unknown to this version: {error}") from error
