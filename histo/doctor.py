"""What `histo doctor` looks at: versions, imports, devices, the reader, the shipped model."""

import platform
import sqlite3
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rich.markup import escape

import histo
from histo.console import out
from histo.errors import HistoError
from histo.models.engine import usable_cores

EXTRAS = ("onnx", "onnxruntime", "simplejpeg", "timm", "tensorboard")
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "albumentations", "openslide-python", "openslide-bin", "numpy")


def examine() -> int:
    """Print one line a check; return 0 when all that is needed works, else 2."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("histo", lambda: f"{histo.__version__}, Python {platform.python_version()}, {usable_cores()} cores"),
        *((name, lambda name=name: version(name)) for name in PACKAGES),
        ("extras", _extras),
        ("sqlite", lambda: f"{sqlite3.sqlite_version} (rollback journal is used)"),
        ("torchvision operators", _torchvision),
        ("device", _device),
        ("reader", _reader),
        ("shipped model", _model),
    ]
    broken = 0
    for name, check in checks:
        try:
            out.print(f"[green]ok     [/green] {name}: {escape(check())}")
        except (ImportError, PackageNotFoundError, RuntimeError, OSError, HistoError) as error:
            broken += 1
            out.print(f"[red]broken [/red] {name}: {escape(str(error))}")
    return 2 if broken else 0


def _extras() -> str:
    def told(name: str) -> str:
        if find_spec(name) is None:
            return f"{name} not installed"
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:  # onnxruntime-gpu is the module onnxruntime
            return f"{name} of another package"

    return ", ".join(map(told, EXTRAS))


def _torchvision() -> str:
    """Run one compiled operator: wheels of torch and torchvision from two builds fail only here."""
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    return f"nms kept {len(kept)} of 1 box"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        torch.ones(1, device="cuda").add(1).item()  # a card that is too old, or taken, is seen and does not compute
        return f"cuda, {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads (no GPU found)"


def _reader() -> str:
    from histo.data.slide import Slide

    return "OpenSlide " + Slide.versions["openslide"]


def _model() -> str:
    from histo.infer import load_model

    model = load_model()
    screen = "with" if model.card.screen else "without"
    reference = f"{model.card.reference.slides} reference slides" if model.card.reference else "no reference slides"
    parts = f"{screen} a screen, {reference}"
    return f"{model.card.name}, digest {model.digest[:12]}, {model.card.tile.mpp:g} µm per pixel, {parts}"
