"""Model bundles: a folder with card.json (the contract) and weights.safetensors, nothing executable.

The card names the SHA-256 of the weights, the weights name the SHA-256 of the card's contract (classes, tile, network,
rule, calibration), and the model's digest is the SHA-256 of the card: one number pins both, and a card edited after the
fact is refused. A golden tile, scored at loading, shows that this machine computes what the maker's did.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from histo.config import ClassesConfig, NetworkConfig, RuleConfig, TileConfig, explain
from histo.errors import ModelError, UsageError
from histo.files import whole, write_text
from histo.results import ClassRule, ModelInfo
from histo.schema import Strict

if TYPE_CHECKING:  # torch is slow to import, and an engine with a kept export never needs it
    from histo.models.classifier import TileClassifier

CARD = "card.json"
WEIGHTS = "weights.safetensors"
SHIPPED = Path(__file__).parent / "weights"
GOLDEN_TOLERANCE = 1e-3
CONTRACT = ("classes", "tile", "network", "rule", "calibration")


class Calibration(Strict):
    """How logits become probabilities, and what that was fitted on."""

    temperature: float = Field(gt=0)
    fitted_on: str


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
    training: dict[str, Any]
    golden: tuple[float, ...]
    weights_sha256: str
    evaluation: dict[str, Any] = Field(default_factory=dict)  # what `histo evaluate` found; pins nothing


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: its card and digest, and its network when it is first asked for."""

    card: ModelCard
    digest: str
    folder: Path

    @cached_property
    def network(self) -> "TileClassifier":
        """The network in evaluation mode, built from `folder` and checked. Raises `ModelError`."""
        return _build(self.folder, self.card)

    def __getstate__(self) -> dict[str, object]:
        return {"card": self.card, "digest": self.digest, "folder": self.folder}

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
            calibration=self.card.calibration.fitted_on,
            normal_class=classes.normal,
        )


def save_bundle(folder: Path, card: dict[str, Any], network: "TileClassifier") -> None:
    """Write a bundle; `card` holds all keys of `ModelCard` but `golden` and `weights_sha256`."""
    import safetensors.torch

    folder.mkdir(parents=True, exist_ok=True)
    full = ModelCard.model_validate({**card, "golden": _golden(network), "weights_sha256": ""})
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    with whole(folder / WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"contract": _contract(full)})
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    # Figures of an earlier evaluation are not those of a model that is saved anew.
    tree = full.model_dump(mode="json", exclude={"evaluation"}) | {"weights_sha256": digest}
    write_text(folder / CARD, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def load_bundle(folder: Path, lazy: bool = False) -> Model:
    """Load a bundle and check it: schema, SHA-256, contract, names and shapes, finite weights, golden tile.

    With `lazy` what needs torch, all from the names on, is left to the first use of `Model.network`.
    Raises `ModelError` with the first thing that is wrong. No pickle is ever opened.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}; a model is a folder with {CARD} and {WEIGHTS} (pickles are never opened)")
    card_bytes, weight_bytes = _read(folder / CARD), _read(folder / WEIGHTS)
    try:
        card = ModelCard.model_validate_json(card_bytes)
    except ValidationError as error:
        raise ModelError(f"{folder / CARD} is not a valid card: {'; '.join(explain(error))}") from error
    _check_digest(folder, weight_bytes, card)
    model = Model(card, digest_of_card(card_bytes), folder)
    if not lazy:
        _ = model.network  # built here, so that a bad bundle is told at once
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


def _build(folder: Path, card: ModelCard) -> "TileClassifier":
    import safetensors.torch
    import torch
    from safetensors import SafetensorError

    weight_bytes = _read(folder / WEIGHTS)
    _check_digest(folder, weight_bytes, card)
    try:
        network = _network(card)
        state = safetensors.torch.load(weight_bytes)
        network.load_state_dict(state)
    except UsageError as error:
        raise ModelError(f"{folder / CARD} describes no network that exists: {error}") from error
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit the network of its card: {str(error)[:300]}") from error
    if not all(bool(torch.isfinite(v).all()) for v in state.values()):
        raise ModelError(f"{folder / WEIGHTS} holds weights that are not numbers; ask for the model again")
    golden = _golden(network)
    if len(golden) != len(card.golden) or not np.allclose(golden, card.golden, atol=GOLDEN_TOLERANCE):
        raise ModelError(
            f"{folder} scores its golden tile {golden}, its card says {list(card.golden)}; ask for it again"
        )
    return network.eval()


def _check_digest(folder: Path, weight_bytes: bytes, card: ModelCard) -> None:
    if hashlib.sha256(weight_bytes).hexdigest() != card.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS} is not the file that its card names (SHA-256 differs); copy it again")


def _contract(card: ModelCard) -> str:
    """Return the SHA-256 of what inference takes from a card."""
    text = json.dumps(card.model_dump(mode="json", include=set(CONTRACT)), sort_keys=True)
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
        raise ModelError(f"{path} cannot be read ({error.strerror}); a model is a folder with both files") from error


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
