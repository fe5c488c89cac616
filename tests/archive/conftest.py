"""Slides of a small archive, runs over them and what their table says."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from histo.archive.examine import RunOptions
from histo.archive.local import run_slides


@pytest.fixture
def slides(painted, tmp_path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a.svs", "b.svs", "c.svs"):
        shutil.copy(painted, folder / name)
    return folder


@pytest.fixture
def rows() -> Callable[[Path], dict[str, dict[str, str]]]:
    """Return what reads the table of an output folder: its rows by slide."""

    def read(out):
        with open(out / "slides.csv", encoding="utf-8", newline="") as file:
            return {row["slide_id"]: row for row in csv.DictReader(file)}

    return read


@pytest.fixture
def run() -> Callable[..., Any]:
    """Return what examines slides and gives their results and the steps of the run."""

    def examine(paths, out, model, **options):
        steps = []
        results = run_slides(paths, out, model, RunOptions(**options), on_step=steps.append)
        return results, steps

    return examine
