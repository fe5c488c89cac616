"""Bundles: what was saved is loaded, and nothing that was damaged, swapped or edited is."""

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from histo.errors import ModelError
from histo.models.bundle import CARD, SHIPPED, WEIGHTS, Model, load_bundle, save_bundle
from histo.models.classifier import TileClassifier

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(colour_bundle: Path, tmp_path: Path) -> Path:
    """A copy of a good bundle, to be damaged."""
    return Path(shutil.copytree(colour_bundle, tmp_path / "bundle"))


def edit_card(bundle: Path, edit: Edit) -> None:
    card = json.loads((bundle / CARD).read_text())
    edit(card)
    (bundle / CARD).write_text(json.dumps(card))


def put_weights(bundle: Path, content: bytes) -> None:
    """Swap the weights and let the card name them, so that nothing but the content is wrong."""
    (bundle / WEIGHTS).write_bytes(content)
    edit_card(bundle, lambda card: card.update(weights_sha256=hashlib.sha256(content).hexdigest()))


def refused(bundle: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_bundle(bundle)
    return str(caught.value)


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


# Round trip


def test_a_bundle_comes_back_as_it_was(colour_bundle: Path) -> None:
    model = load_bundle(colour_bundle)
    assert model.card.name == "mean-colour"
    assert model.digest == hashlib.sha256((colour_bundle / CARD).read_bytes()).hexdigest()
    state = safetensors.torch.load_file(colour_bundle / WEIGHTS)
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in state.items())


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
def test_a_loaded_network_is_in_evaluation_mode_and_scores_as_the_saved_one(
    backbone: str, tmp_path: Path, bundle: Path
) -> None:
    torch.manual_seed(3)
    card = json.loads((bundle / CARD).read_text())
    card["network"] |= {"backbone": backbone, "mean": [0.8, 0.6, 0.7], "std": [0.2, 0.2, 0.2]}
    network = TileClassifier(backbone, 3, 16, (0.8, 0.6, 0.7), (0.2, 0.2, 0.2))
    with torch.no_grad():
        network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))  # batch statistics of its own
    assert network.training
    save_bundle(tmp_path / "saved", card, network)
    assert network.training
    loaded = load_bundle(tmp_path / "saved").network
    tiles = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert not any(m.training for m in loaded.modules())
    with torch.inference_mode():
        assert torch.equal(loaded(tiles), network.eval()(tiles))
        assert torch.equal(loaded(tiles), loaded(tiles))


def test_saving_the_same_model_twice_gives_the_same_bytes(colour_model: Model, tmp_path: Path) -> None:
    card = colour_model.card.model_dump(exclude={"golden", "weights_sha256"})
    for name in "ab":
        save_bundle(tmp_path / name, card, colour_model.network)
    for file in (CARD, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(os.listdir(tmp_path / "a")) == sorted([CARD, WEIGHTS])


def test_a_network_in_channels_last_can_be_saved(colour_model: Model, tmp_path: Path) -> None:
    network = TileClassifier("resnet18", 3, 16, (0, 0, 0), (1, 1, 1)).to(memory_format=torch.channels_last)
    card = colour_model.card.model_dump(exclude={"golden", "weights_sha256"})
    card["network"] = {**card["network"], "backbone": "resnet18"}
    save_bundle(tmp_path / "a", card, network)
    assert load_bundle(tmp_path / "a").card.network.backbone == "resnet18"


def test_what_results_say_of_a_model_is_what_its_card_says(colour_model: Model) -> None:
    info = colour_model.info
    assert info.class_names == ("normal", "bone", "calcification")
    assert [c.verdict for c in info.classes] == ["heterotopic_ossification", "calcinosis_cutis"]
    assert info.digest == colour_model.digest


@pytest.mark.skipif(not (SHIPPED / CARD).exists(), reason="the shipped model is not built")
def test_the_shipped_model_loads() -> None:
    assert load_bundle(SHIPPED).card.classes.names == ("normal", "bone", "calcification")


# Files


@pytest.mark.parametrize("file", [CARD, WEIGHTS])
def test_a_missing_file_is_named(file: str, bundle: Path) -> None:
    (bundle / file).unlink()
    assert file in refused(bundle)


@pytest.mark.parametrize("file", [CARD, WEIGHTS])
def test_a_folder_in_a_file_s_place_is_refused(file: str, bundle: Path) -> None:
    (bundle / file).unlink()
    (bundle / file).mkdir()
    assert "cannot be read" in refused(bundle)


def test_a_missing_folder_and_a_bare_file_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere")
    canary = tmp_path / "canary"
    for name in ("model.pt", "model.ckpt", "model.bin", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Canary(canary)))
        assert "pickles are never opened" in refused(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_a_card_that_is_no_card_is_refused(content: bytes, bundle: Path) -> None:
    (bundle / CARD).write_bytes(content)
    assert "is not a valid card" in refused(bundle)


# Weights


def test_a_pickle_in_the_weights_place_is_refused_unopened(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"head.weight": Canary(canary)}, tmp_path / "zip")
    for content in (pickle.dumps(Canary(canary)), (tmp_path / "zip").read_bytes()):
        (bundle / WEIGHTS).write_bytes(content)
        assert "SHA-256 differs" in refused(bundle)
        put_weights(bundle, content)
        assert "does not fit the network" in refused(bundle)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()  # had it been opened, this is what it would have left


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_weights_are_refused(share: float, bundle: Path) -> None:
    content = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes(content[: int(share * len(content))])
    assert "SHA-256 differs" in refused(bundle)
    put_weights(bundle, content[: int(share * len(content))])
    assert "does not fit the network" in refused(bundle)


def test_any_flipped_bit_is_refused(bundle: Path) -> None:
    content = (bundle / WEIGHTS).read_bytes()
    for at in range(0, len(content), max(1, len(content) // 25)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << (at % 8)
        (bundle / WEIGHTS).write_bytes(flipped)
        assert "SHA-256 differs" in refused(bundle)


def header(entries: str, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(entries)) + entries.encode() + body


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(struct.pack("<Q", 2**63) + b"{}", id="header-of-2^63"),
        pytest.param(header("{}"), id="no-tensors"),
        pytest.param(header("not json"), id="no-json"),
        pytest.param(
            header('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', b"\0" * 4),
            id="overflow",
        ),
        pytest.param(
            header(
                '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                b"\0" * 4,
            ),
            id="overlap",
        ),
        pytest.param(
            header(
                "{"
                + ",".join(f'"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(20_000))
                + "}"
            ),
            id="20000-entries",
        ),
    ],
)
def test_crafted_weights_are_refused(content: bytes, bundle: Path) -> None:
    put_weights(bundle, content)
    assert len(refused(bundle)) < 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, bundle: Path) -> None:
    state = safetensors.torch.load_file(bundle / WEIGHTS)
    state["head.weight"].view(-1)[3] = value
    put_weights(bundle, safetensors.torch.save(state))
    assert "not numbers" in refused(bundle)


def test_other_numbers_in_the_weights_are_refused_by_the_golden_tile(bundle: Path) -> None:
    state = safetensors.torch.load_file(bundle / WEIGHTS)
    state["head.bias"][1] += 0.5
    put_weights(bundle, safetensors.torch.save(state))
    assert "golden tile" in refused(bundle)


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_of_another_network_are_refused(change: str, bundle: Path) -> None:
    state = safetensors.torch.load_file(bundle / WEIGHTS)
    if change == "missing":
        del state["head.bias"]
    elif change == "more":
        state["extra"] = torch.zeros(1)
    else:
        state["head.weight"] = torch.zeros(3, 5, 1, 1)
    put_weights(bundle, safetensors.torch.save(state))
    assert "does not fit the network" in refused(bundle)


# The card


def swap_lesions(card: dict[str, Any]) -> None:
    card["classes"]["lesions"].reverse()


def put(section: str, key: str, value: object) -> Edit:
    def edit(card: dict[str, Any]) -> None:
        card[section][key] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(swap_lesions, id="class-order"),
        pytest.param(lambda card: card["classes"]["lesions"][0].update(name="fat"), id="class-name"),
        pytest.param(lambda card: card["classes"]["lesions"][0].update(verdict="normal"), id="class-verdict"),
        pytest.param(put("network", "mean", [0.1, 0.0, 0.0]), id="mean"),
        pytest.param(put("network", "std", [1.0, 2.0, 1.0]), id="std"),
        pytest.param(put("network", "std", [0.0, 1.0, 1.0]), id="std-of-zero"),
        pytest.param(put("tile", "size_px", 512), id="tile-size"),
        pytest.param(put("tile", "mpp", 0.5), id="scale"),
        pytest.param(put("tile", "margin_px", 0), id="margin"),
        pytest.param(put("rule", "seed", 0.6), id="threshold"),
        pytest.param(put("calibration", "temperature", 4.0), id="temperature"),
    ],
)
def test_a_card_edited_after_the_fact_is_refused(edit: Edit, bundle: Path) -> None:
    """The weights' digest pins the weights alone; something must pin what the card says of them."""
    edit_card(bundle, edit)
    assert str(bundle) in refused(bundle)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda card: card.update(extra=1), id="unknown-key"),
        pytest.param(put("tile", "overlap_px", 3), id="unknown-nested-key"),
        pytest.param(lambda card: card.pop("rule"), id="missing-key"),
        pytest.param(lambda card: card.update(schema_version=2), id="newer-schema"),
        pytest.param(put("tile", "size_px", 500), id="impossible-tile"),
        pytest.param(put("calibration", "temperature", 0), id="no-temperature"),
        pytest.param(put("calibration", "temperature", float("inf")), id="infinite-temperature"),
        pytest.param(put("calibration", "temperature", float("nan")), id="nan-temperature"),
        pytest.param(put("network", "backbone", "resnet19"), id="unknown-backbone"),
        pytest.param(put("tile", "stride_px", 8), id="impossible-stride"),
        pytest.param(lambda card: card.update(golden=[]), id="no-golden"),
        pytest.param(lambda card: card.update(golden=[0.3]), id="short-golden"),
        pytest.param(lambda card: card.update(golden=[0.25] * 4), id="long-golden"),
        pytest.param(lambda card: card.update(golden=[float("nan")] * 3), id="nan-golden"),
        pytest.param(lambda card: card["classes"]["lesions"].pop(), id="class-missing"),
        pytest.param(lambda card: card.update(weights_sha256="../" * 10), id="no-digest"),
    ],
)
def test_a_card_that_makes_no_sense_is_a_model_error(edit: Edit, bundle: Path) -> None:
    edit_card(bundle, edit)
    assert str(bundle) in refused(bundle)


def test_the_golden_tile_has_structure_in_every_colour(colour_model: Model) -> None:
    """Probabilities near 0 or 1 would hide an edit of the normalisation."""
    golden = np.array(colour_model.card.golden)
    assert golden.sum() == pytest.approx(1, abs=1e-5)
    assert golden.max() < 0.999
