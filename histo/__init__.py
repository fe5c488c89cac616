"""histo: calcification, bone or neither on H&E skin slides. Research use only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from histo.export.outputs import write_outputs
    from histo.infer import inspect_slide, load_model, predict_slide
    from histo.results import load_result

_HOME = {
    "inspect_slide": "histo.infer",
    "load_model": "histo.infer",
    "predict_slide": "histo.infer",
    "write_outputs": "histo.export.outputs",
    "load_result": "histo.results",
}

__all__ = [
    "__version__",
    "inspect_slide",
    "load_model",
    "load_result",
    "predict_slide",
    "write_outputs",
]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import histo` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'histo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
