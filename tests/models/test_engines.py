"""Engines agree, are chosen openly, and fall back; lanes keep order; a kept export is trusted only while it agrees."""

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from histo.errors import ArchiveError, UsageError
from histo.models import backbones, engine, engine_onnx
from histo.models.bundle import Model, load_bundle, save_bundle
from histo.models.classifier import TileClassifier
from histo.models.engine import Engines, Seen, device_kind, has_onnx, score_batches
from histo.models.engine_onnx import OnnxEngine, ParityError, made_up_tile
from histo.models.engine_torch import Scorer, TorchEngine
from histo.models.onnx_export import reference
from histo.timing import Timings

needs_onnx = pytest.mark.skipif(not has_onnx(), reason="the extra fast is not installed")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, colour_bundle: Path) -> Model:
    """A real network with statistics that are not those of a fresh one, for 96 px tiles."""
    import json

    card = json.loads((colour_bundle / "card.json").read_text())
    for key in ("golden", "weights_sha256", "schema_version"):
        del card[key]
    card["name"] = "small"
    card["network"] |= {"backbone": "mobilenet_v3_small", "mean": (0.8, 0.6, 0.7), "std": (0.2, 0.3, 0.15)}
    card["tile"] |= {"size_px": 96, "stride_px": 16, "margin_px": 16}
    card["calibration"] |= {"temperature": 1.7}
    torch.manual_seed(1)
    network = TileClassifier("mobilenet_v3_small", 3, 16, (0.8, 0.6, 0.7), (0.2, 0.3, 0.15))
    pictures = torch.from_numpy(np.concatenate([made_up_tile(96), made_up_tile(96)[:, ::-1]])).permute(0, 3, 1, 2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of these pictures, whole
    with torch.no_grad():
        network(pictures)
        spread = network.eval()(pictures).std(dim=(0, 2, 3))
        network.head.weight /= spread[:, None, None, None]  # so that a wrong border or scale shows
    folder = tmp_path_factory.mktemp("small")
    save_bundle(folder, card, network.eval())
    return load_bundle(folder)


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.concatenate([made_up_tile(96), rng.integers(0, 256, (3, 96, 96, 3), np.uint8)])


def no_sample() -> NDArray[np.uint8]:
    return np.empty((0, 96, 96, 3), np.uint8)


@needs_onnx
def test_an_export_serves_windows_smaller_than_the_tiles_it_was_made_with(
    small: Model, tiles: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Regression: made on windows of another size than the made-up tile, an export ended the slide."""
    windows = np.ascontiguousarray(tiles[:, :64, 16:80])
    engine = OnnxEngine(small, 1, lambda: windows, tmp_path)
    wanted = reference(small, windows)
    assert wanted.probability.shape == (4, 3, 4, 4)
    np.testing.assert_allclose(engine.see(windows).probability, wanted.probability, atol=1e-4)
    for mine, other in zip(engine.see(tiles)[1:], reference(small, tiles)[1:], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)


def test_folding_changes_nothing_and_padding_still_means_the_mean_colour(
    small: Model, tiles: NDArray[np.uint8]
) -> None:
    """The border cells are where a folded normalisation goes wrong."""
    wanted, *others = reference(small, tiles)
    scorer = Scorer(small.network, 1.7, margin=1)
    with torch.inference_mode():
        found, *pooled = (part.numpy() for part in scorer(torch.from_numpy(tiles)))
    assert scorer.scale is None, "the deviation should be in the first convolution"
    assert np.ptp(wanted) > 0.3, "a flat answer proves nothing"
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    for mine, other in zip(pooled, others, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4 * np.abs(other).max())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in scorer.trunk.modules())


def test_a_trunk_that_cannot_take_the_scale_is_scaled_before_it(tiles: NDArray[np.uint8]) -> None:
    class Squared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x

    network = TileClassifier("mobilenet_v3_small", 3, 16, (0.5,) * 3, (0.2,) * 3).eval()
    network.trunk = nn.Sequential(Squared(), *network.trunk)
    scorer = Scorer(network, 1.0)
    assert scorer.scale is not None
    with torch.inference_mode():
        wanted = network(torch.from_numpy(tiles).permute(0, 3, 1, 2)).softmax(1)
        np.testing.assert_allclose(scorer(torch.from_numpy(tiles))[0], wanted, atol=1e-4)


@needs_onnx
def test_engines_agree_on_every_tile_of_a_batch(small: Model, tiles: NDArray[np.uint8], tmp_path: Path) -> None:
    onnx = OnnxEngine(small, 2, lambda: tiles[1:], cache=tmp_path)
    on_cpu = TorchEngine(small, torch.device("cpu"), 2)
    wanted = reference(small, tiles)
    for one in (onnx, on_cpu):
        np.testing.assert_allclose(one.see(tiles).probability, wanted.probability, atol=1e-3)
        np.testing.assert_allclose(one.see(tiles[2:3]).probability, wanted.probability[2:3], atol=1e-3)
        for mine, other in zip(one.see(tiles)[1:], wanted[1:], strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-3 * np.abs(other).max())
    assert torch.get_num_threads() >= 1


@needs_onnx
def test_the_export_is_kept_and_used_without_the_network(
    small: Model, tiles: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = OnnxEngine(small, 1, no_sample, cache=tmp_path).see(tiles).probability
    assert [p.suffix for p in tmp_path.iterdir()] == [".zip"]
    again = replace(small)  # its network is not built yet
    monkeypatch.setattr(OnnxEngine, "_export", lambda *_: pytest.fail("exported again"))
    np.testing.assert_array_equal(OnnxEngine(again, 1, no_sample, cache=tmp_path).see(tiles).probability, first)
    assert "network" not in again.__dict__


@needs_onnx
@pytest.mark.parametrize("damage", ["cut", "other answer", "other features", "other texture", "garbage"])
def test_a_kept_export_that_is_damaged_or_disagrees_is_made_again(damage: str, small: Model, tmp_path: Path) -> None:
    OnnxEngine(small, 1, no_sample, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage.startswith("other"):
        kept = engine_onnx._read(path)
        assert kept is not None
        by = {"other answer": 0.01, "other features": np.abs(kept[1].features).max()}.get(damage, 1e3)
        wrong = [by * (n == ("other answer", "other features", "other texture").index(damage)) for n in range(3)]
        engine_onnx._keep(path, kept[0], Seen(*(part + by for part, by in zip(kept[1], wrong, strict=True))))
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"PK" + bytes(500))
    OnnxEngine(small, 1, no_sample, cache=tmp_path)
    kept = engine_onnx._read(path)
    assert kept is not None
    for found, wanted in zip(kept[1], reference(small, made_up_tile(96)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6 * max(1, np.abs(wanted).max()))


@needs_onnx
def test_a_cache_that_cannot_be_written_costs_only_time(small: Model, tiles: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = OnnxEngine(small, 1, no_sample, cache=tmp_path / "file")
    np.testing.assert_allclose(one.see(tiles).probability, reference(small, tiles).probability, atol=1e-3)


@needs_onnx
@pytest.mark.parametrize("what", ["probability", "feature", "texture"])
def test_an_engine_that_disagrees_on_tiles_of_the_slide_is_not_used(
    what: str,
    small: Model,
    tiles: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def wrong(model: Model, some: NDArray[np.uint8]) -> Seen:
        seen = reference(model, some)
        if np.array_equal(some, made_up_tile(96)):
            return seen
        at = ("probability", "feature", "texture").index(what)
        return Seen(*(part + 0.002 * (np.abs(part).max() if n else 1) * (n == at) for n, part in enumerate(seen)))

    monkeypatch.setattr("histo.models.onnx_export.reference", wrong)
    with pytest.raises(ParityError, match=rf"a {what} differs from torch's"):
        OnnxEngine(small, 1, lambda: tiles)
    with caplog.at_level(logging.WARNING):
        picked = Engines(small, "auto", "cpu").pick(lambda: tiles)
    assert picked.name == "torch"
    # Bug: the reason stood in a log that is not shown, and whoever asked for ONNX Runtime got torch without a word.
    assert "ONNX Runtime was not used: on a tile of the slide" in picked.why
    with pytest.raises(UsageError, match="--engine onnx cannot be used: on a tile of the slide"):
        Engines(small, "onnx", "cpu").pick(lambda: tiles)
    assert "differs from torch's" in caplog.text
    assert not list(tmp_path.rglob("*.zip")), "an export that failed is not kept"


@needs_onnx
def test_a_graph_that_loads_and_cannot_run_is_no_engine(small, tiles, tmp_path, monkeypatch) -> None:
    """Regression: every slide failed with an internal error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken(self, tiles):
        raise RuntimeError("planted")

    monkeypatch.setattr(OnnxEngine, "see", broken)
    picked = Engines(small, "auto", "cpu").pick(lambda: tiles)
    assert (picked.name, "it cannot run the network (planted)" in picked.why) == ("torch", True)


def test_without_the_extra_torch_is_used_and_asking_for_onnx_is_an_error(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "has_onnx", lambda: False)
    picked = Engines(small, "auto", "cpu").pick(no_sample)
    assert picked.name == "torch"
    assert "onnxruntime" in picked.why
    with pytest.raises(UsageError, match="install onnx and onnxruntime"):
        Engines(small, "onnx", "cpu")


def test_an_unknown_engine_or_device_is_an_error(small: Model) -> None:
    with pytest.raises(UsageError, match="not an engine"):
        Engines(small, "fast")
    with pytest.raises(UsageError, match="not a device"):
        Engines(small, "auto", "gpu")
    assert device_kind("cpu") == "cpu"


@needs_onnx
def test_onnx_is_not_put_aside_for_a_gpu_without_a_word(monkeypatch: pytest.MonkeyPatch, small: Model) -> None:
    # Bug: with a GPU there --engine onnx computed with torch in half precision.
    monkeypatch.setattr(engine, "device_kind", lambda wanted: "cuda")
    with pytest.raises(UsageError, match="computes on the CPU, and --device auto takes the GPU"):
        Engines(small, "onnx")


@pytest.mark.parametrize("device", ["mps", "xpu", "meta"])
def test_a_device_that_torch_knows_and_histo_does_not_is_refused(device: str) -> None:
    # Bug: it was taken, written into the settings, and every slide failed as an internal error.
    with pytest.raises(UsageError, match="use auto, cpu or cuda"):
        device_kind(device)


def test_a_batch_too_large_is_halved_where_the_error_holds_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch, small: Model, tiles: NDArray[np.uint8]
) -> None:
    # Bug: the halves were scored in the handler, whose error kept what the failed pass had made alive.
    alive: list[bool] = []

    def at_most_one(self: TorchEngine, batch: NDArray[np.uint8]) -> Seen:
        alive.append(sys.exc_info()[0] is not None)
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError
        return see(self, batch)

    see = TorchEngine._see
    monkeypatch.setattr(TorchEngine, "_see", at_most_one)
    scorer = TorchEngine(small, torch.device("cpu"))
    halved = scorer.see(tiles[:3]).probability
    assert not any(alive)
    assert np.allclose(halved, np.concatenate([see(scorer, t[None]).probability for t in tiles[:3]]), atol=1e-5)


@needs_onnx
def test_a_network_that_cannot_be_exported_falls_back(small: Model, tmp_path: Path) -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x[..., :6, :6]).real.mean() + nn.functional.avg_pool2d(x, 16)

    backbones.BACKBONES["stubborn"] = (lambda weights: Stubborn(), lambda net: [net])
    try:
        stubborn = replace(small)
        stubborn.__dict__["network"] = TileClassifier("stubborn", 3, 16, (0.8,) * 3, (0.2,) * 3).eval()
        with pytest.raises(ParityError, match="cannot be exported"):
            OnnxEngine(stubborn, 1, no_sample, cache=tmp_path)
    finally:
        del backbones.BACKBONES["stubborn"]


@dataclass
class Numbered:
    rgb: NDArray[np.uint8]
    number: int


class SlowEngine:
    name, why, device, batch_size = "slow", "a test", "cpu", 1

    def __init__(self, lanes: int, breaks_at: int = -1) -> None:
        self.lanes, self.breaks_at = lanes, breaks_at
        self.running = self.most = 0
        self._lock = threading.Lock()

    def score(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.see(tiles).probability

    def see(self, tiles: NDArray[np.uint8]) -> Seen:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        number = int(tiles[0, 0, 0, 0])
        time.sleep(0.002 * (number % 3))
        with self._lock:
            self.running -= 1
        if number == self.breaks_at:
            raise RuntimeError("planted")
        flat = np.full((len(tiles), 2), number, np.float32)
        return Seen(np.full((len(tiles), 1, 1, 1), number, np.float32), flat, flat)


def numbered(sizes: list[int], pulled: list[int]) -> Iterator[Numbered]:
    for number, size in enumerate(sizes):
        pulled.append(number)
        yield Numbered(np.full((size, 1, 1, 3), number, np.uint8), number)


@given(st.lists(st.integers(0, 2), max_size=12), st.integers(1, 3))
def test_every_batch_comes_once_in_order_with_its_own_scores(sizes: list[int], lanes: int) -> None:
    one = SlowEngine(lanes)
    pulled: list[int] = []
    seen = 0
    for batch, scores in score_batches(numbered(sizes, pulled), one, Timings()):
        assert batch.number == seen
        assert len(pulled) <= seen + lanes + 2, "more is read than can be scored"
        assert (scores is None) == (sizes[seen] == 0)
        assert scores is None or all((part == seen).all() for part in scores)
        seen += 1
    assert seen == len(sizes)
    assert one.most <= lanes


def test_an_error_in_a_lane_reaches_the_caller_and_leaves_no_thread() -> None:
    with pytest.raises(RuntimeError, match="planted"):
        list(score_batches(numbered([1] * 9, []), SlowEngine(2, breaks_at=4), Timings()))
    assert not [t for t in threading.enumerate() if t.name.startswith("histo-lane")]


def test_a_gpu_is_one_lane_with_large_batches_and_keeps_the_trunk_as_it_was(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a fake device: what is decided for a GPU, without one. The numbers themselves need a real one."""
    made: dict[str, bool] = {}

    def scorer(network: TileClassifier, temperature: float, margin: int, fold: bool) -> nn.Module:
        made["fold"] = fold
        return nn.Identity()

    monkeypatch.setattr("histo.models.engine_torch.Scorer", scorer)
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    one = TorchEngine(small, torch.device("cuda"), 2, "a test")
    assert (one.lanes, one.device, made["fold"]) == (1, "cuda", False)
    assert one.batch_size > 1


def test_a_gpu_that_does_not_compute_stops_the_run_in_one_sentence(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: with a card too old for torch's kernels every slide of an archive failed as an internal error."""

    def refuses(self: object, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(TorchEngine, "_see", refuses)
    one = TorchEngine(small, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="no kernel image"):
        one.see(np.zeros((1, 64, 64, 3), np.uint8))
    one.on = torch.device("cuda")
    monkeypatch.setattr("histo.models.engine_torch._computes", lambda device: True)  # then it is this call's own fault
    with pytest.raises(RuntimeError, match="no kernel image"):
        one.see(np.zeros((1, 64, 64, 3), np.uint8))
    monkeypatch.setattr("histo.models.engine_torch._computes", lambda device: False)
    with pytest.raises(ArchiveError, match=r"^cuda does not compute \(CUDA error: no kernel image is available\); ask"):
        one.see(np.zeros((1, 64, 64, 3), np.uint8))
    monkeypatch.setattr("histo.models.engine_torch.Scorer", lambda *_, **__: nn.Identity())
    monkeypatch.setattr(nn.Module, "to", refuses)
    with pytest.raises(ArchiveError, match="use --device cpu"):
        TorchEngine(small, torch.device("cuda"))


def test_a_container_s_share_of_the_cores_is_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: with `docker --cpus=2` on 64 cores there were 64 lanes."""
    monkeypatch.setattr(engine.os, "sched_getaffinity", lambda process: set(range(64)))
    for quota, cores in ((2.0, 2), (1.5, 2), (0.1, 1), (math.inf, 64)):
        monkeypatch.setattr(engine, "_quota", lambda quota=quota: quota)
        assert engine.usable_cores() == cores


@needs_onnx
def test_nothing_is_told_to_the_maker_of_the_engine(tmp_path: Path) -> None:
    """Regression: from 1.29 on ONNX Runtime keeps, and sends, what it was used for."""
    code = (
        "import histo.models.engine_onnx, onnxruntime, time\n"
        "onnxruntime.SessionOptions(); onnxruntime.get_available_providers(); time.sleep(0.5)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
    assert not list(tmp_path.rglob("*Microsoft*"))


def test_what_auto_means_is_decided_once(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: with a GPU that has no libcuda (ROCm) half precision stood under the key of the CPU."""
    monkeypatch.setattr(engine, "_has_driver", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    picked = Engines(small, "torch").pick(lambda: np.zeros((1, 512, 512, 3), np.uint8))
    assert picked.device == "cpu"


@needs_onnx
def test_an_export_is_kept_under_the_module_s_version_whatever_package_it_is_of(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: with onnxruntime-gpu, which is the same module, every slide failed."""

    def installed(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(engine_onnx, "version", installed)
    key = engine_onnx._key(small)
    monkeypatch.setattr("onnxruntime.__version__", "0.0")
    assert engine_onnx._key(small) != key


@needs_onnx
def test_a_second_start_imports_no_torch(
    colour_bundle: Path, painted: Path, tmp_path: Path, small: Model, write_tiff: Callable[..., Path]
) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport histo.infer as i\n"
        "model = i.load_model(sys.argv[1], lazy=True)\n"
        "result = i.predict_slide(sys.argv[2], model, device='cpu').result\n"
        "assert result.provenance.engine.startswith('ONNX'), result\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(small.folder), str(painted)]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=300) for _ in range(2)]
    assert [r.stdout.strip() for r in runs] == ["True", "False"], runs[-1].stderr[-800:]


def test_a_user_without_a_home_has_no_cache_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    # Bug: for a user id without a name every slide was an internal error.
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    folder = engine_onnx.cache_folder()
    assert engine_onnx._read(folder / "a.zip") is None
    engine_onnx._keep(folder / "a.zip", b"graph", Seen(*np.zeros((3, 1), np.float32)))
    assert not folder.exists()
