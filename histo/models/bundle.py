"""Model bundles: a folder with card.json (the contract) and weights.safetensors, nothing executable.

A model may have a screen, a second network in screen.safetensors with a section of the card, and a reference for
telling foreign tissue, in reference.safetensors with another.

The card names the SHA-256 of the weights, the weights name the SHA-256 of the card's contract (classes, tile, network,
rule, calibration, screen, reference), and the model's digest is the SHA-256 of the card: one number pins all, and a
card edited after the fact is refused. A golden tile, scored at loading, shows that this machine computes what the
maker's did.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from histo.config import ClassConfig, ClassesConfig, NetworkConfig, RuleConfig, TileConfig
from histo.errors import ModelError, UsageError
from histo.files import whole, write_text
from histo.models import foreign
from histo.models.conformal import Conformal
from histo.models.screen import ScreenCard
from histo.models.slide_scores import Calibration, SlideCalibration
from histo.results import ClassRule, ModelInfo
from histo.schema import Strict, explain

if TYPE_CHECKING:  # torch is slow to import, and an engine with a kept export never needs it
    from histo.models.classifier import TileClassifier

CARD = "card.json"
WEIGHTS = "weights.safetensors"
SCREEN = "screen.safetensors"
SHIPPED = Path(__file__).parent / "weights"
GOLDEN_TOLERANCE = 1e-3
CONTRACT = ("classes", "tile", "network", "rule", "calibration", "screen", "reference")


class ModelCard(Strict):
    """The contract of a model: everything that inference needs to know, and where the model came from."""

    schema_version: Literal[1] = 1
    name: str
    intended_use: str
    classes: ClassesConfig
    tile: TileConfig
    network: NetworkConfig
    rule: RuleConfig
    calibration: Calibration
    screen: ScreenCard | None = None
    reference: foreign.Reference | None = None
    training: dict[str, Any]
    golden: tuple[float, ...]
    weights_sha256: str
    evaluation: dict[str, Any] = Field(default_factory=dict)  # what was found out about it later; pins nothing


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: its card and digest, and its network, in the file `weights`, when it is first asked for."""

    card: ModelCard
    digest: str
    folder: Path
    weights: str = WEIGHTS

    @cached_property
    def network(self) -> "TileClassifier":
        """The network in evaluation mode, built from `folder` and checked. Raises `ModelError`."""
        return _build(self.folder, self.card, self.weights)

    @cached_property
    def screen(self) -> "Model | None":
        """The screen as a model of its own, with the classes normal and any lesion; None where there is none."""
        if self.card.screen is None:
            return None
        digest = hashlib.sha256(f"screen of {self.digest}".encode()).hexdigest()
        return Model(_card_of_screen(self.card, self.card.screen), digest, self.folder, SCREEN)

    @cached_property
    def cloud(self) -> foreign.Cloud | None:
        """The reference slides that foreign tissue is told by, or None where the card has none. Raises `ModelError`."""
        reference = self.card.reference
        return foreign.load_reference(self.folder / foreign.FILE, reference.sha256) if reference else None

    def __getstate__(self) -> dict[str, object]:
        return {"card": self.card, "digest": self.digest, "folder": self.folder, "weights": self.weights}

    @property
    def info(self) -> ModelInfo:
        """What results say of the model that made them."""
        classes = self.card.classes
        return ModelInfo(
            name=self.card.name,
            digest=self.digest,
            classes=tuple(ClassRule(c.name, c.colour, c.min_area_mm2, c.verdict) for c in classes.lesions),
            normal_label=classes.normal_label,
            intended_use=self.card.intended_use,
            calibration=self.card.calibration.in_words,
            normal_class=classes.normal,
            screen=self.card.screen.fitted_on if self.card.screen else "",
        )


def save_bundle(
    folder: Path,
    card: dict[str, Any],
    network: "TileClassifier",
    screen: "TileClassifier | None" = None,
    reference: foreign.Arrays | None = None,
) -> None:
    """Write a bundle; `card` holds all keys of `ModelCard` but `golden` and `weights_sha256`, its `screen` too.

    `screen` is the network of the card's section `screen`, see `Model.screen`, `reference` the arrays of its section
    `reference`; without them the files that the sections name must lie in the folder already, see `rewrite`.
    Raises `ModelError` when they do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if screen is not None:
        digest = _save_weights(folder / SCREEN, screen, {})
        card = {**card, "screen": {**card["screen"], "golden": _golden(screen), "weights_sha256": digest}}
    elif card.get("screen") is not None:
        _check_digest(folder / SCREEN, _read(folder / SCREEN), card["screen"]["weights_sha256"])
    if reference is not None:
        digest = foreign.save_reference(folder / foreign.FILE, reference)
        card = {**card, "reference": {**card["reference"], "sha256": digest}}
    elif card.get("reference") is not None:
        _check_digest(folder / foreign.FILE, _read(folder / foreign.FILE), card["reference"]["sha256"])
    full = ModelCard.model_validate({**card, "golden": _golden(network), "weights_sha256": ""})
    digest = _save_weights(folder / WEIGHTS, network, {"contract": _contract(full)})
    unset = {name for name in ("screen", "reference") if getattr(full, name) is None}
    # Figures of an earlier evaluation are not those of a model that is saved anew.
    text = full.model_dump(mode="json", exclude=unset | {"evaluation"}) | {"weights_sha256": digest}
    write_text(folder / CARD, json.dumps(text, indent=1, ensure_ascii=False) + "\n")


def rewrite(
    model: Model,
    folder: Path,
    sections: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    screen: "TileClassifier | None" = None,
    reference: foreign.Arrays | None = None,
) -> None:
    """Write a model once more into `folder`, which may be its own, with other `sections` of its card.

    `training` is added to what the card says of how the model was made; `screen` and `reference` are what the sections
    of these names go with. All that is not given stays as it is.
    """
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"}) | dict(sections)
    card["training"] |= training or {}
    folder.mkdir(parents=True, exist_ok=True)
    for section, name in ((model.card.screen, SCREEN), (model.card.reference, foreign.FILE)):
        if section is not None and folder.resolve() != model.folder.resolve():
            with whole(folder / name) as temporary:
                temporary.write_bytes(_read(model.folder / name))
    save_bundle(folder, card, model.network, screen, reference)


def _save_weights(path: Path, network: "TileClassifier", metadata: dict[str, str]) -> str:
    import safetensors.torch

    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    # Not `save_file`, which makes a file that only its owner may read.
    content = safetensors.torch.save(state, metadata)
    with whole(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _card_of_screen(card: ModelCard, screen: ScreenCard) -> ModelCard:
    """Return the card of the screen as a model: what engines need, and nothing that a verdict could be made from."""
    lesion = ClassConfig(name="any_lesion", colour=(0, 0, 0), min_area_mm2=1, verdict="any_lesion")
    return ModelCard(
        name=f"{card.name} (screen)",
        intended_use=card.intended_use,
        classes=ClassesConfig(normal=card.classes.normal, normal_label=card.classes.normal_label, lesions=(lesion,)),
        tile=screen.tile,
        network=screen.network,
        rule=card.rule,
        calibration=Calibration(temperature=1.0, fitted_on="Not fitted."),
        training={},
        golden=screen.golden,
        weights_sha256=screen.weights_sha256,
    )


def save_calibrated(
    folder: Path,
    model: Model,
    slides: SlideCalibration,
    conformal: Conformal | None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a model with another calibration of its slide scores into `folder`, which may be its own.

    `training` is added to what the card says of how the model was made.
    """
    calibration = model.card.calibration.model_copy(update={"slides": slides, "conformal": conformal})
    rewrite(model, folder, {"calibration": calibration.model_dump(mode="json")}, training)


def note_figures(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Write figures into a card under `evaluation` and a name; the model and its digest stay what they are.

    Raises `ModelError` when the card cannot be read or written.
    """
    path = folder / CARD
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        tree["evaluation"] = {**tree.get("evaluation", {}), name: figures}
        write_text(path, json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot take the figures ({error}); check that it may be written") from error


def refuse_to_overwrite(out: Path) -> None:
    """Raise `UsageError` where a new model would be written over another."""
    if (out / CARD).exists():
        raise UsageError(f"{out} holds a model already and is not overwritten; give another --out")


def load_bundle(folder: Path, lazy: bool = False) -> Model:
    """Load a bundle and check it: schema, SHA-256, contract, names and shapes, finite weights, golden tile.

    With `lazy` what needs torch, all from the names on, is left to the first use of `Model.network`.
    Raises `ModelError` with the first thing that is wrong. No pickle is ever opened.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        if folder.with_name(f"{folder.name}.unfinished").exists():
            what = "is not there yet: its training is not finished, type its command again"
        raise ModelError(f"{folder} {what}; a model is a folder with {CARD} and {WEIGHTS} (pickles are never opened)")
    card_bytes, weight_bytes = _read(folder / CARD), _read(folder / WEIGHTS)
    try:
        card = ModelCard.model_validate_json(card_bytes)
    except ValidationError as error:
        raise ModelError(f"{folder / CARD} is not a valid card: {'; '.join(explain(error, ModelCard))}") from error
    _check_digest(folder / WEIGHTS, weight_bytes, card.weights_sha256)
    if card.screen is not None:
        _check_digest(folder / SCREEN, _read(folder / SCREEN), card.screen.weights_sha256)
    model = Model(card, digest_of_card(card_bytes), folder)
    _ = model.cloud
    for one in (model, model.screen):
        if one is not None and not lazy:
            _ = one.network  # built here, so that a bad bundle is told at once
    # Told last: a bundle that is broken as well as edited is broken.
    if _made_for(folder, weight_bytes) != _contract(card):
        raise ModelError(
            f"{folder / CARD} was edited after the model was made; use the card that came with the weights"
        )
    return model


def digest_of_card(card_bytes: bytes) -> str:
    """Return a model's digest, the SHA-256 of its card without what was found out about it later (`evaluation`)."""
    tree = json.loads(card_bytes)
    if not tree.pop("evaluation", None):
        return hashlib.sha256(card_bytes).hexdigest()
    return hashlib.sha256((json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()).hexdigest()


def _build(folder: Path, card: ModelCard, weights: str) -> "TileClassifier":
    import safetensors.torch
    import torch
    from safetensors import SafetensorError

    path = folder / weights
    weight_bytes = _read(path)
    _check_digest(path, weight_bytes, card.weights_sha256)
    try:
        network = _network(card)
        state = safetensors.torch.load(weight_bytes)
        network.load_state_dict(state)
    except UsageError as error:
        raise ModelError(f"{folder / CARD} describes no network that exists: {error}") from error
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"{path} does not fit the network of its card: {str(error)[:300]}") from error
    if not all(bool(torch.isfinite(v).all()) for v in state.values()):
        raise ModelError(f"{path} holds weights that are not numbers; ask for the model again")
    golden = _golden(network)
    if len(golden) != len(card.golden) or not np.allclose(golden, card.golden, atol=GOLDEN_TOLERANCE):
        raise ModelError(
            f"{folder} scores its golden tile {golden}, its card says {list(card.golden)}; ask for it again"
        )
    return network.eval()


def _check_digest(path: Path, weight_bytes: bytes, wanted: str) -> None:
    if hashlib.sha256(weight_bytes).hexdigest() != wanted:
        raise ModelError(f"{path} is not the file that its card names (SHA-256 differs); copy it again")


def _contract(card: ModelCard) -> str:
    """Return the SHA-256 of what inference takes from a card; sections that are not set count for nothing."""
    text = json.dumps(card.model_dump(mode="json", include=set(CONTRACT), exclude_none=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _made_for(folder: Path, weight_bytes: bytes) -> str | None:
    """Return the contract that weights were saved for, from the JSON header of the safetensors file."""
    try:
        length = int.from_bytes(weight_bytes[:8], "little")
        contract: str | None = json.loads(weight_bytes[8 : 8 + length]).get("__metadata__", {}).get("contract")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit the network of its card: no header in it") from error
    return contract


def _network(card: ModelCard) -> "TileClassifier":
    from histo.models.classifier import TileClassifier

    net, tile = card.network, card.tile
    # The weights come from the bundle, whatever the training started from.
    return TileClassifier(net.backbone, len(card.classes.names), tile.stride_px, net.mean, net.std, pretrained=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); a model is a folder with all its files") from error


def _golden(network: "TileClassifier") -> list[float]:
    """Return the mean class probabilities of a fixed picture with structure at all scales and in all colours."""
    import torch

    y, x = np.mgrid[0:128, 0:128].astype(np.float64)
    waves = [np.sin(x * y / (97 + 31 * c)) * 50 + np.cos((x + (c + 1) * y) / 9) * 40 + 150 for c in range(3)]
    picture = np.floor(np.clip(np.stack(waves), 0, 255) + 0.5).astype(np.uint8)
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        probability = network(torch.from_numpy(picture)[None]).softmax(dim=1).mean(dim=(0, 2, 3))
    network.train(was_training)
    return [round(float(p), 6) for p in probability]
