"""Run WSInfer 0.6 on a folder of slides with a local model; needs only WSInfer's environment.

    PYTHON bench/run_wsinfer.py FOLDER MODEL OUT [--speedup]

It loads its list of models from the network at every start, also for a local one: that is left out, in its favour.
"""

import os
import sys
from pathlib import Path

import wsinfer_zoo.client


class NoModels:
    """An empty list of models."""

    models: dict[str, object] = {}  # noqa: RUF012  what WSInfer looks at


def main() -> None:
    """Start WSInfer's own command line."""
    folder, model, out, *options = sys.argv[1:]
    os.environ["WSINFER_FORCE_CPU"] = "1"
    wsinfer_zoo.client.load_registry = lambda *args, **kwargs: NoModels()
    from wsinfer.cli.cli import cli

    Path(out).mkdir(parents=True)
    config, weights = Path(model) / "config.json", Path(model) / "torchscript_model.pt"
    given = ["--wsi-dir", folder, "--results-dir", out, "--config", str(config), "--model-path", str(weights)]
    cli(["run", *given, *options])


if __name__ == "__main__":
    main()
