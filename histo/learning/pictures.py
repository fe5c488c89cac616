"""Pictures of a run: learning curves, confusion of held-out verdicts, tiles with their label maps."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from histo.files import whole
from histo.learning.scores import Held

NO_LABEL = (255, 255, 255)
ACROSS = 8  # tiles in a row


def draw_curves(metrics: Path, path: Path) -> None:
    """Draw every measure of metrics.csv against the epoch: losses above, shares of right answers below."""
    with open(metrics, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "epoch"]
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, measures in ((above, [n for n in names if "loss" in n]), (below, [n for n in names if "loss" not in n])):
        for name in measures:
            seen = [(int(row["epoch"]), float(row[name])) for row in rows if row[name]]  # none of training at the start
            axes.plot(*zip(*seen, strict=True), marker="o", markersize=3, label=name.replace("_", " "))
        if measures:
            axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    above.set_ylabel("loss")
    below.set_ylabel("share right")
    below.set_ylim(-0.02, 1.02)
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def draw_confusion(rows: Sequence[Held], labels: Sequence[str], title: str, path: Path) -> None:
    """Draw how many slides of each label got each verdict."""
    found = [*labels, *(["none"] if any(r.verdict == "none" for r in rows) else [])]
    counts = np.array([[sum(r.label == a and r.verdict == b for r in rows) for b in found] for a in labels])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 * len(found) + 2.6, 1.2 * len(labels) + 2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        axes.text(j, i, str(count), ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
    words = [name.replace("_", " ") for name in found]
    axes.set_xticks(range(len(found)), words, rotation=20, ha="right")
    axes.set_yticks(range(len(labels)), words[: len(labels)])
    axes.set_xlabel("verdict")
    axes.set_ylabel("label")
    axes.set_title(title, fontsize=10)
    _save(figure, path)


def draw_tiles(
    tiles: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], str]],
    colours: Sequence[tuple[int, int, int]],
    names: Sequence[str],
    path: Path,
) -> None:
    """Draw tiles (S, S, 3) above their label maps: class fractions (C, h, w) as mixed colours, white without label."""
    lines = -(-len(tiles) // ACROSS)
    figure = Figure(figsize=(2 * ACROSS, 4.4 * lines + 0.4), layout="constrained")
    axes = figure.subplots(2 * lines, ACROSS, squeeze=False)
    for blank in axes.flat:
        blank.axis("off")
    for number, (rgb, fractions, weights, title) in enumerate(tiles):
        above, column = 2 * (number // ACROSS), number % ACROSS
        mixed = np.einsum("chw,ck->hwk", fractions, np.array(colours, np.float32))
        seen = np.clip(weights, 0, 1)[..., None]
        shown = np.clip(mixed * seen + np.array(NO_LABEL) * (1 - seen), 0, 255).astype(np.uint8)
        for row, picture in ((above, rgb), (above + 1, shown)):
            axes[row, column].axis("on")
            axes[row, column].imshow(picture)
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
        axes[above, column].set_title(title, fontsize=8)
    words = [f"{name} = rgb{tuple(colour)}" for name, colour in zip(names, colours, strict=True)]
    figure.supxlabel("label maps: " + ", ".join(words) + ", white = not learnt", fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
