"""Plots of a report, each a PNG of its own; a plot that has nothing to show is None."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray
from PIL import Image

from histo.evaluation.froc import RATES
from histo.results import ModelInfo

Picture = NDArray[np.uint8]
_DPI = 130


def _plot(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _drawn(figure: Figure) -> Picture:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return np.asarray(Image.open(buffer).convert("RGB"))


def colours_of(model: ModelInfo) -> dict[str, str]:
    """Return the colour of every class and of the label that it leads to, as plots take it."""
    found = {}
    for rule in reversed(model.classes):
        found[rule.verdict] = found[rule.name] = "#" + bytes(rule.colour).hex()
    return found


def draw_reliability(bins: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw how often what was given a probability happened, with exact intervals; area of a dot: slides."""
    if not bins:
        return None
    figure, axes = _plot(4.6, 4.3)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for b in bins:
        share = b["share"]
        axes.plot([b["mean"]] * 2, [share["low"], share["high"]], color="#35618f", linewidth=1.2)
        axes.scatter([b["mean"]], [share["value"]], s=18 + 4 * min(share["n"], 60), color="#35618f", zorder=3)
        axes.annotate(str(share["n"]), (b["mean"], share["value"]), (7, -3), textcoords="offset points", fontsize=8)
    axes.set(xlim=(-0.02, 1.05), ylim=(-0.02, 1.04), xlabel="probability of the verdict", ylabel="share right")
    return _drawn(figure)


def draw_coverage_risk(curve: Sequence[Mapping[str, float]], decided: float) -> Picture | None:
    """Draw the share wrong against the share judged, and where the model's own review rule stands."""
    if not curve:
        return None
    figure, axes = _plot()
    axes.step([p["coverage"] for p in curve], [p["risk"] for p in curve], where="post", color="#35618f")
    axes.axvline(decided, color="0.4", linestyle=":")
    place = "left" if decided < 0.6 else "right"
    axes.text(
        decided,
        0.98,
        f" decided without review: {decided:.0%} ",
        ha=place,
        va="top",
        fontsize=8,
        transform=axes.get_xaxis_transform(),
    )
    top = max(0.05, max(p["risk"] for p in curve))
    axes.set(xlim=(0, 1.01), ylim=(0, 1.15 * top), xlabel="share of slides judged", ylabel="share of these wrong")
    return _drawn(figure)


def draw_roc(scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]], model: ModelInfo) -> Picture | None:
    """Draw the ROC curve of every class that has scores with and without it."""
    if all(positive.all() or not positive.any() for _, positive in scores.values()):
        return None
    figure, axes = _plot(4.6, 4.3)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name, (values, positive) in scores.items():
        if positive.any() and not positive.all():
            axes.plot(*_roc(values, positive), color=colours_of(model).get(name), label=name.replace("_", " "))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(fontsize=8, loc="lower right")
    return _drawn(figure)


def _roc(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """Return the share of negatives and of positives at or above every distinct value, from the strongest on."""
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order], append=np.nan) != 0)
    true = np.cumsum(positive[order])[ends] / positive.sum()
    false = np.cumsum(~positive[order])[ends] / (~positive).sum()
    return [0.0, *false.tolist()], [0.0, *true.tolist()]


def draw_foreign(here: Sequence[float], familiar: Sequence[float]) -> Picture | None:
    """Draw how the distance of the tissue alone tells these slides from familiar ones: a ROC curve."""
    if not here or not familiar:
        return None
    figure, axes = _plot(4.6, 4.3)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    axes.plot(*_roc(np.array([*here, *familiar]), np.arange(len(here) + len(familiar)) < len(here)), color="#35618f")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel="familiar slides above the limit")
    axes.set_ylabel("these slides above the limit")
    return _drawn(figure)


def draw_froc(curves: Mapping[str, Mapping[str, Any]], model: ModelInfo) -> Picture | None:
    """Draw lesions found against false candidates a normal slide, with intervals at the six rates."""
    known = {name: c for name, c in curves.items() if c["score"] is not None}
    if not known:
        return None
    figure, axes = _plot()
    for name, curve in known.items():
        colour = colours_of(model).get(name)
        points = [p for p in curve["curve"] if p["false_per_slide"] <= 2 * RATES[-1]]
        x = [max(p["false_per_slide"], RATES[0] / 2) for p in points]
        axes.step(x, [p["sensitivity"] for p in points], where="post", color=colour, label=name.replace("_", " "))
        for at in curve["at"]:
            if at["patient_low"] is not None:
                axes.plot([at["false_per_slide"]] * 2, [at["patient_low"], at["patient_high"]], color=colour, alpha=0.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{r:g}" for r in RATES])
    axes.set(xlim=(RATES[0] / 2, RATES[-1] * 1.2), ylim=(0, 1.02))
    axes.set(xlabel="false candidates a normal slide", ylabel="share of lesions found")
    axes.legend(fontsize=8, loc="lower right")
    return _drawn(figure)


def draw_sizes(sizes: Mapping[str, Mapping[str, Any]], model: ModelInfo) -> Picture | None:
    """Draw the share of lesions that were reported against their diameter, with exact intervals and the curve."""
    known = {name: s for name, s in sizes.items() if s["bins"]}
    if not known:
        return None
    figure, axes = _plot()
    for shift, (name, size) in enumerate(known.items()):
        colour = colours_of(model).get(name)
        for b in size["bins"]:
            low, high, share = max(b["from_um"], 25.0), b["to_um"] or 2000.0, b["share"]
            x = (low * high) ** 0.5 * 1.05**shift
            axes.plot([x, x], [share["low"], share["high"]], color=colour, linewidth=1.2)
            axes.scatter([x], [share["value"]], s=18 + 2 * min(share["n"], 60), color=colour, zorder=3)
        if size["slope_per_doubling"] is not None:
            x = np.geomspace(20, 2500, 200)
            logit = size["intercept"] + size["slope_per_doubling"] * np.log2(x)
            axes.plot(x, 1 / (1 + np.exp(-logit)), color=colour, label=name.replace("_", " "))
        else:
            axes.plot([], [], color=colour, label=f"{name.replace('_', ' ')} (no curve fits)")
    axes.set_xscale("log")
    axes.set_xticks([25, 50, 100, 200, 500, 1000, 2000], ["25", "50", "100", "200", "500", "1000", "2000"])
    axes.minorticks_off()
    axes.set(
        xlim=(20, 2500), ylim=(-0.02, 1.04), xlabel="diameter of a disc of the same area, µm", ylabel="share reported"
    )
    axes.legend(fontsize=8, loc="lower right")
    return _drawn(figure)


def draw_areas(areas: Mapping[str, Mapping[str, Any]], model: ModelInfo) -> Picture | None:
    """Draw the ratio of called to true area against the true area, with the limits of agreement."""
    known = {name: a for name, a in areas.items() if a["n"]}
    if not known:
        return None
    figure, axes = _plot()
    axes.axhline(1, color="0.5", linewidth=1)
    for name, area in known.items():
        colour, pairs = colours_of(model).get(name), [p for p in area["pairs_mm2"] if p[1] > 0]
        missed = f", {area['missed']} missed" if area["missed"] else ""
        axes.scatter(
            [t for t, _ in pairs],
            [c / t for t, c in pairs],
            s=14,
            color=colour,
            alpha=0.7,
            label=f"{name.replace('_', ' ')}{missed}",
        )
        if area["bland_altman"]:
            for key, style in (("ratio", "-"), ("low", ":"), ("high", ":")):
                axes.axhline(area["bland_altman"][key], color=colour, linestyle=style, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="true area, mm²", ylabel="called area / true area")
    axes.legend(fontsize=8)
    return _drawn(figure)


def draw_learning_curve(points: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw balanced accuracy with its interval by the number of patients that a model learnt from."""
    if not points:
        return None
    figure, axes = _plot()
    x = [p["patients"] for p in points]
    figures = [p["balanced_accuracy"] for p in points]
    y = [f["value"] for f in figures]
    below, above = ([abs(f["value"] - f[end]) for f in figures] for end in ("low", "high"))
    axes.errorbar(x, y, yerr=[below, above], color="#35618f", marker="o", capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [str(n) for n in x])
    axes.minorticks_off()
    axes.set(ylim=(0, 1), xlabel="patients learnt from", ylabel="balanced accuracy, 95 % interval")
    return _drawn(figure)


def draw_decisions(rows: Sequence[Mapping[str, float]]) -> Picture | None:
    """Draw the net benefit of acting on the model, on every slide and on none, by threshold."""
    if not rows:
        return None
    figure, axes = _plot()
    x = [r["threshold"] for r in rows]
    for key, colour, label in (
        ("model", "#35618f", "the model"),
        ("all", "0.55", "every slide is acted on"),
        ("none", "0.1", "none is"),
    ):
        axes.plot(x, [r[key] for r in rows], color=colour, label=label)
    top = max(max(r["model"], r["all"]) for r in rows)
    axes.set(xlim=(0, 1), ylim=(-0.3 * max(top, 0.1), 1.1 * max(top, 0.1)))
    axes.set(xlabel="probability of a lesion from which on one acts", ylabel="net benefit")
    axes.legend(fontsize=8)
    return _drawn(figure)
