"""Two judges that know little: mean colour, and a dozen numbers of texture. Learnt from the same slides as a model.

If colour or simple texture does as well as a network, the slides are too easy to prove anything. Tiles of 112 µm are
measured; a tile is judged by a logistic regression, a slide by the mean of its three strongest tiles of each lesion
class, and what that means by a second one that is learnt from held-out slides, so that nobody is handicapped. Where the
outlines don't show tiles of every class that the labels ask for, a slide is judged by the mean of its tiles instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from histo.data.agreement import says_nothing
from histo.data.annotations import read_annotations
from histo.data.labels import IGNORED, draw_labels
from histo.data.overview import read_overview
from histo.data.records import SlideRecord
from histo.data.scanned import on_map
from histo.data.slide import open_slide
from histo.data.tile_sample import spread
from histo.data.tissue import find_tissue
from histo.errors import SlideError, UsageError
from histo.evaluation.cases import NO_VERDICT, Cohort
from histo.evaluation.comparators import Judge
from histo.evaluation.truth import Unannotated
from histo.geometry import TileSpec, lay_tiles, map_grid_for, tile_lattice
from histo.results import ModelInfo

SPEC = TileSpec(112, 1.0, 112, 0)
MOST_TILES = 240
SCALES_PX = (1.0, 2.0, 4.0)
_FILLED, _CLEAR, _TISSUE = 0.35, 0.01, 0.5
_STRONGEST, _FOLDS = 3, 5


@dataclass(frozen=True, eq=False)
class Tiles:
    """Colour (N, 3), texture (N, 12) and class (N,) of a slide's tiles; the class is -1 where it is not clear."""

    colour: NDArray[np.float64]
    texture: NDArray[np.float64]
    label: NDArray[np.int64]


def learnt_judges(
    cohort: Cohort, trained: Sequence[SlideRecord], aliases: Mapping[str, str], unannotated: Unannotated = "normal"
) -> list[Judge]:
    """Return the verdicts of both baselines on a cohort after learning from labelled slides."""
    names = cohort.model.class_names
    pool = [(r, t) for r in trained if (t := tiles_of(r, names, cohort.labels[0], aliases, unannotated)) is not None]
    shown = [tiles_of(c.as_examined, names, cohort.labels[0], None) for c in cohort.cases]
    patients = [r.patient for r, _ in pool]
    if len(set(patients)) < 2:
        raise UsageError("--train names slides of fewer than two patients that can be read; baselines learn from more")
    labels = [r.label for r, _ in pool]
    outlined = _outlined(cohort.model, set(labels), [t.label for _, t in pool], patients)
    judges = []
    for what, title in (("colour", "mean colour"), ("texture", "texture")):
        features = [(getattr(t, what), t.label) for _, t in pool]
        theirs = [None if t is None else getattr(t, what) for t in shown]
        calls = _learn(features, labels, patients, theirs) if outlined else _learn_means(features, labels, theirs)
        how = (
            "112 µm tiles"
            if outlined
            else "a slide's 112 µm tiles, averaged because too few outlines show every class,"
        )
        note = f"{title} of {how} by logistic regression, learnt from {len(pool)} slides"
        judges.append(Judge(f"{title} baseline", calls, note))
    return judges


def _outlined(model: ModelInfo, labels: set[str], tiles: Sequence[NDArray[np.int64]], patients: Sequence[str]) -> bool:
    """Tell whether each fold leaves some tile that is clearly normal, and some clearly of a class for every label."""
    dealt = _dealt(patients)
    for fold in set(dealt.values()):
        left = [t for t, patient in zip(tiles, patients, strict=True) if dealt[patient] != fold]
        shown = set(np.concatenate(left).tolist()) if left else set()
        told = {c.verdict for k, c in enumerate(model.classes, start=1) if k in shown}
        if 0 not in shown or not labels - {model.normal_label} <= told:
            return False
    return True


def _dealt(patients: Sequence[str]) -> dict[str, int]:
    """Return the fold of every patient."""
    folds = min(_FOLDS, len(set(patients)))
    return {patient: k % folds for k, patient in enumerate(dict.fromkeys(patients))}


def tiles_of(
    record: SlideRecord,
    names: Sequence[str],
    normal: str,
    aliases: Mapping[str, str] | None,
    unannotated: Unannotated = "normal",
) -> Tiles | None:
    """Measure up to 240 tiles of tissue; None where the slide cannot be read. Without `aliases` nothing is labelled."""
    rest = IGNORED if unannotated == "ignore" and record.label != normal else 0
    try:
        with open_slide(record.path, record.mpp) as slide:
            overview, lost = read_overview(slide)
            lattice, _ = map_grid_for(slide.pyramid, SPEC)
            tissue = on_map(find_tissue(overview, lost).mask, overview, slide.pyramid, lattice)
            grid = lay_tiles(slide.pyramid, SPEC, np.where(tissue > _TISSUE, tissue, 0))
            chosen = spread(len(grid), MOST_TILES)
            outlines = None
            if aliases is not None and (record.annotation or record.label == normal):
                outlines = (
                    read_annotations(record.annotation, names, slide.pyramid, aliases) if record.annotation else {}
                )
                if record.label != normal and says_nothing([name for name, drawn in outlines.items() if drawn]):
                    outlines = None
            colour, texture, label = [], [], []
            for k in chosen.tolist():
                x, y = grid.positions_level0_px[k].tolist()
                tile = slide.read_tile((x, y), grid.plan)
                colour.append(tile.mean(axis=(0, 1)))
                texture.append(
                    _texture(np.asarray(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255))
                )
                label.append(-1)
                if outlines is not None:
                    drawn = draw_labels(outlines, names, tile_lattice((x, y), grid.plan, slide.pyramid), rest)
                    label[-1] = _class_of(np.bincount(drawn.ravel(), minlength=256)[: len(names)] / drawn.size)
    except SlideError:
        return None
    return Tiles(np.array(colour).reshape(-1, 3), np.array(texture).reshape(-1, 12), np.array(label, np.int64))


def _class_of(shares: NDArray[np.float64]) -> int:
    lesions = shares[1:]
    if shares[0] > 1 - _CLEAR:
        return 0
    strongest = int(lesions.argmax())
    return strongest + 1 if lesions[strongest] > _FILLED and lesions.sum() - lesions[strongest] < _CLEAR else -1


def _texture(grey: NDArray[np.float32]) -> list[float]:
    """Return twelve numbers: energy, skewness, kurtosis of a band and coherence of its gradient, at three scales."""
    found = []
    for sigma in SCALES_PX:
        near, far = (cv2.GaussianBlur(grey, (0, 0), s) for s in (sigma, 1.6 * sigma))
        band = near - far - (near - far).mean()
        spread = float(band.std()) + 1e-6
        gy, gx = cv2.Sobel(near, cv2.CV_32F, 0, 1), cv2.Sobel(near, cv2.CV_32F, 1, 0)
        xx, yy, xy = (cv2.GaussianBlur(m, (0, 0), 2 * sigma) for m in (gx * gx, gy * gy, gx * gy))
        coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-6)
        moments = [float((band**k).mean()) / spread**k for k in (3, 4)]
        found += [float(np.log(spread)), moments[0], float(np.log(moments[1] + 1e-6)), float(coherence.mean())]
    return found


def _learn(
    pool: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    labels: Sequence[str],
    patients: Sequence[str],
    shown: Sequence[NDArray[np.float64] | None],
) -> tuple[str, ...]:
    names = sorted(set(labels))
    truth = np.array([names.index(label) for label in labels])
    classes = max((int(t.max(initial=0)) for _, t in pool), default=0) + 1
    held = np.zeros((len(pool), max(classes - 1, 1)))
    dealt = _dealt(patients)
    for fold in sorted(set(dealt.values())):
        judge = _fit_tiles([p for p, patient in zip(pool, patients, strict=True) if dealt[patient] != fold], classes)
        for k in (k for k, patient in enumerate(patients) if dealt[patient] == fold):
            held[k] = _strongest(judge, pool[k][0])
    slide_judge = Softmax.fit(held, truth, len(names))
    judge = _fit_tiles(pool, classes)
    calls = []
    for rows in shown:
        if rows is None:
            calls.append(NO_VERDICT)
        else:
            calls.append(names[int(slide_judge.chances(_strongest(judge, rows)[None]).argmax())])
    return tuple(calls)


def _learn_means(
    pool: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    labels: Sequence[str],
    shown: Sequence[NDArray[np.float64] | None],
) -> tuple[str, ...]:
    names = sorted(set(labels))
    means = [
        (rows.mean(axis=0), names.index(label)) for (rows, _), label in zip(pool, labels, strict=True) if len(rows)
    ]
    judge = Softmax.fit(np.array([m for m, _ in means]), np.array([k for _, k in means]), len(names))
    return tuple(
        NO_VERDICT if rows is None or not len(rows) else names[int(judge.chances(rows.mean(axis=0)[None]).argmax())]
        for rows in shown
    )


def _fit_tiles(pool: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]], classes: int) -> "Softmax":
    rows = np.concatenate([x[t >= 0] for x, t in pool])
    return Softmax.fit(rows, np.concatenate([t[t >= 0] for _, t in pool]), max(classes, 2))


def _strongest(judge: "Softmax", rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return per lesion class the mean chance of a slide's strongest tiles; 0 for a slide without tiles."""
    if not len(rows):
        return np.zeros(judge.weights.shape[1] - 1)
    return np.asarray(np.sort(judge.chances(rows)[:, 1:], axis=0)[-_STRONGEST:].mean(axis=0))


@dataclass(frozen=True, eq=False)
class Softmax:
    """A logistic regression of several classes that weigh alike, on features and, if so fitted, their squares."""

    weights: NDArray[np.float64]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]
    squares: bool = True

    @staticmethod
    def fit(
        rows: NDArray[np.float64], truth: NDArray[np.int64], classes: int, strength: float = 1e-3, squares: bool = True
    ) -> "Softmax":
        """Fit on rows (N, F) of classes (N,), with a ridge of `strength`."""
        middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        x = _design((rows - middle) / spread, squares)
        counts = np.bincount(truth, minlength=classes)
        weight = (1 / np.maximum(counts, 1))[truth] / max(int((counts > 0).sum()), 1)
        wanted = np.eye(classes)[truth]

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            w = flat.reshape(x.shape[1], classes)
            log_p = log_softmax(x @ w, axis=1)
            slope = x.T @ ((np.exp(log_p) - wanted) * weight[:, None]) + 2 * strength * w
            return float(-(weight[:, None] * wanted * log_p).sum() + strength * (w**2).sum()), slope.ravel()

        found = minimize(loss, np.zeros(x.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        return Softmax(found.x.reshape(x.shape[1], classes), middle, spread, squares)

    def chances(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the chance of every class (N, C)."""
        return np.asarray(softmax(_design((rows - self.middle) / self.spread, self.squares) @ self.weights, axis=1))


def _design(z: NDArray[np.float64], squares: bool) -> NDArray[np.float64]:
    return np.concatenate([np.ones((len(z), 1)), z, *([z**2] if squares else [])], axis=1)
