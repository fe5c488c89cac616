"""Counts of label against verdict, and every measure that follows from them, for one table or a stack of them.

A table (…, L, L + 1) has a row a label and a column a verdict, the last one for slides without a verdict. Such a slide
is right for no label: it lowers the sensitivity of its own and the specificity of the others, and is no false alarm.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def confusions(labels: NDArray[np.int64], verdicts: NDArray[np.int64], count: int, weights: Table) -> Table:
    """Return tables (B, L, L + 1) for weights (B, N); `verdicts` (N,) are 0 to L, L for none."""
    cells = np.zeros((len(labels), count * (count + 1)))
    cells[np.arange(len(labels)), labels * (count + 1) + verdicts] = 1
    return np.asarray((weights @ cells).reshape(-1, count, count + 1))


def by_label(table: Table) -> Mapping[str, Table]:
    """Return sensitivity, specificity, PPV, NPV and F1 (…, L) of every label against the others; NaN without slides."""
    count = table.shape[-2]
    right = np.diagonal(table[..., :count], axis1=-2, axis2=-1)
    own, called = table.sum(axis=-1), table[..., :count].sum(axis=-2)
    total = table.sum(axis=(-1, -2))[..., None]
    missed, false = own - right, called - right
    silent = table[..., count]  # slides of a label that have no verdict
    silences = silent.sum(axis=-1)[..., None]
    clear = total - own - false - (silences - silent)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "sensitivity": right / own,
            "specificity": clear / (total - own),
            "ppv": right / called,
            "npv": clear / (total - called - silences),
            "f1": 2 * right / (2 * right + missed + false),
        }


def counts_by_label(table: Table) -> list[dict[str, tuple[int, int]]]:
    """Return (hits, n) of sensitivity, specificity, PPV and NPV for every label of one table (L, L + 1)."""
    count = len(table)
    total = int(table.sum())
    found = []
    for k in range(count):
        right, own, called = int(table[k, k]), int(table[k].sum()), int(table[:, k].sum())
        silences = int(table[:, count].sum())
        clear = total - own - (called - right) - (silences - int(table[k, count]))
        found.append(
            {
                "sensitivity": (right, own),
                "specificity": (clear, total - own),
                "ppv": (right, called),
                "npv": (clear, total - called - silences),
            }
        )
    return found


def overall(table: Table, among: NDArray[np.bool_]) -> Mapping[str, Table]:
    """Return accuracy, balanced accuracy, macro F1, Cohen's kappa and Gorodkin's MCC (…,).

    The second and third are means over the labels `among` (L,): those that have slides, before any are drawn. They do
    not exist (NaN) for a table that drew none of one of these. Kappa: Cohen 1960. MCC of many classes: Gorodkin 2004.
    """
    square = np.concatenate([table, np.zeros_like(table[..., :1, :])], axis=-2)
    total = square.sum(axis=(-1, -2))
    right = np.trace(square, axis1=-2, axis2=-1)
    rows, columns = square.sum(axis=-1), square.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = (rows * columns).sum(axis=-1) / total**2
        spread = np.sqrt((total**2 - (columns**2).sum(axis=-1)) * (total**2 - (rows**2).sum(axis=-1)))
        each = by_label(table)
        return {
            "accuracy": right / total,
            "balanced_accuracy": _mean(each["sensitivity"], among),
            "macro_f1": _mean(np.where(table.sum(axis=-1) > 0, each["f1"], np.nan), among),
            "kappa": (right / total - chance) / (1 - chance),
            "mcc": (right * total - (rows * columns).sum(axis=-1)) / spread,
        }


def with_slides(table: Table) -> NDArray[np.bool_]:
    """Return the labels (L,) of a table (L, L + 1) that have slides."""
    return np.asarray(table.sum(axis=-1) > 0)


def _mean(values: Table, among: NDArray[np.bool_]) -> Table:
    return np.asarray(values[..., among].mean(axis=-1)) if among.any() else np.full(values.shape[:-1], np.nan)
