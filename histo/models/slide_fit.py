"""Fitting slide scores to labelled slides that the model was not trained on: Platt scaling, or beta on many slides."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from histo.models.conformal import FEWEST, Conformal, fit_conformal
from histo.models.reliability import measure_reliability
from histo.models.slide_scores import EVIDENCE, ClassCalibration, Method, SlideCalibration
from histo.models.verdict import label_probability
from histo.precedence import Rule
from histo.results import ClassRule
from histo.weighting import inverse_counts

FOLDS = 10
SLOPE_SD, OFFSET_SD = 2.0, 10.0  # how far from the identity a fit goes without evidence for it
LEAST_SLOPE = 0.02

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SampleSizes:
    """The fewest patients with and without a class for Platt scaling and for beta, and of a label for its set."""

    platt: int = 10
    beta: int = 50
    label: int = FEWEST


SIZES = SampleSizes()


@dataclass(frozen=True)
class ScoredSlide:
    """A held-out slide: whose it is, its label, the evidence of every class by name, and which classes are known.

    `present` lacks a class of which the label says nothing. Where a check speaks against the slide, `exclusions_hold`
    is False: sets of diagnoses are promised for the others, and so are fitted on them.
    """

    patient: str
    label: str
    evidence: Mapping[str, float]
    present: Mapping[str, bool]
    exclusions_hold: bool = True


def fit_slides(
    slides: Sequence[ScoredSlide],
    rules: Sequence[ClassRule],
    normal_label: str,
    source: str,
    sizes: SampleSizes = SIZES,
    current: SlideCalibration | None = None,
) -> tuple[SlideCalibration, Conformal | None]:
    """Fit every class and the sets of diagnoses; what has too few patients is refused with a sentence.

    `current` are the slide scores that the model gives until now, which those it will give stand beside.
    Reliability and sets are measured on probabilities that each came from a fit without the slide's patient.
    """
    classes: dict[str, ClassCalibration] = {}
    crossed: dict[str, Floats] = {}
    refused: list[str] = []
    for rule in rules:
        evidence = np.array([s.evidence[rule.name] for s in slides], float)
        known = np.array([rule.name in s.present for s in slides], bool)
        present = np.array([s.present.get(rule.name, False) for s in slides], bool)
        patients = [s.patient for s in slides]
        why = _why_not(rule, rules, present, known, patients, sizes)
        if why is None:
            used = [p for p, k in zip(patients, known, strict=True) if k]
            now = current.classes.get(rule.name) if current else None
            fitted, held = fit_class(evidence[known], present[known], used, sizes, now)
            if max(fitted.a, fitted.b) < LEAST_SLOPE:
                why = f"{rule.name} is not calibrated: its evidence is no higher on slides that have it."
        if why is not None:
            refused.append(why)
            continue
        classes[rule.name] = fitted
        crossed[rule.name] = np.array([fitted.probability(e) for e in evidence])
        crossed[rule.name][known] = held
    conformal = None
    if len(classes) == len(rules):
        conformal, told = fit_conformal(_scores(slides, crossed, rules, normal_label), fewest=sizes.label)
        refused += told
    else:
        refused.append("No sets of diagnoses: they need every class calibrated.")
    count = len({s.patient for s in slides})
    found = SlideCalibration(
        evidence=EVIDENCE, source=source, slides=len(slides), patients=count, classes=classes, refused=tuple(refused)
    )
    return found, conformal


def too_few(
    rules: Sequence[Rule], present: Sequence[Mapping[str, bool]], patients: Sequence[str], sizes: SampleSizes = SIZES
) -> dict[str, str]:
    """Return which of the classes cannot be fitted on slides of `patients`, whatever their evidence, and why not."""
    found = {}
    for rule in rules:
        known = np.array([rule.name in p for p in present], bool)
        there = np.array([p.get(rule.name, False) for p in present], bool)
        found[rule.name] = _why_not(rule, rules, there, known, patients, sizes)
    return {name: why for name, why in found.items() if why is not None}


def fit_class(
    evidence: Floats,
    present: Bools,
    patients: Sequence[str],
    sizes: SampleSizes = SIZES,
    current: ClassCalibration | None = None,
) -> tuple[ClassCalibration, Floats]:
    """Fit one class on evidence (N,) in log-odds; return it, and the probabilities (N,) by fits without the patient.

    Beta calibration with at least `sizes.beta` patients with and without the class, else Platt scaling: the numbers
    decide, never the fit. Every patient counts once with the class and once without it, however many slides he has.
    What it is `before` is by the `current` scores, by the evidence itself where there are none.
    """
    with_class = {p for p, there in zip(patients, present, strict=True) if there}
    without = {p for p, there in zip(patients, present, strict=True) if not there}
    method: Method = "beta" if min(len(with_class), len(without)) >= sizes.beta else "platt"
    fold, weight = _folds(patients, with_class), inverse_counts([*zip(patients, present.tolist(), strict=True)])
    held = np.empty(len(evidence))
    for number in np.unique(fold):
        out = fold == number
        held[out] = apply(fit_curve(evidence[~out], present[~out], method, weight[~out]), evidence[out])
    a, b, c = fit_curve(evidence, present, method, weight)
    found = ClassCalibration(
        method=method,
        a=round(a, 6),
        b=round(b, 6),
        c=round(c, 6),
        patients_with=len(with_class),
        patients_without=len(without),
        slides_with=int(present.sum()),
        slides_without=int((~present).sum()),
        before=measure_reliability(_by(current, evidence), present),
        after=measure_reliability(held, present),
    )
    return found, held


def _by(current: ClassCalibration | None, evidence: Floats) -> Floats:
    """Return the probabilities (N,) that a model gives to evidence (N,)."""
    return np.asarray(expit(evidence)) if current is None else apply((current.a, current.b, current.c), evidence)


def fit_curve(evidence: Floats, present: Bools, method: Method, weight: Floats) -> tuple[float, float, float]:
    """Return a, b and c of logit p = a ln s - b ln(1 - s) + c for evidence (N,) = logit s; a = b for Platt scaling.

    Slides count by their `weight` (N,), which adds up to n with and m without the class. Targets are Platt's,
    (n + 1) / (n + 2) and 1 / (m + 2), and a weak pull to the identity keeps classes that are told apart without an
    error from a fit that is certain.
    """
    n, m = float(weight[present].sum()), float(weight[~present].sum())
    target = np.where(present, (n + 1) / (n + 2), 1 / (m + 2))
    terms = [-np.logaddexp(0, -evidence), np.logaddexp(0, evidence)]
    columns = [sum(terms)] if method == "platt" else terms
    x = np.stack([*columns, np.ones(len(evidence))], axis=1)
    usual = np.array([*[1.0] * len(columns), 0.0])
    spread = np.array([*[SLOPE_SD] * len(columns), OFFSET_SD])

    def loss(w: Floats) -> tuple[float, Floats]:
        z, away = x @ w, (w - usual) / spread
        cost = (weight * (np.logaddexp(0, z) - target * z)).sum() + (away**2).sum() / 2
        return float(cost), x.T @ (weight * (expit(z) - target)) + away / spread

    bounds = [*[(0.0, None)] * len(columns), (None, None)]
    found = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(found[0]), float(found[-2]), float(found[-1])


def apply(curve: tuple[float, float, float], evidence: Floats) -> Floats:
    """Return the probabilities (N,) of a fitted curve."""
    a, b, c = curve
    return np.asarray(expit(a * -np.logaddexp(0, -evidence) + b * np.logaddexp(0, evidence) + c))


def _why_not(
    rule: Rule, rules: Sequence[Rule], present: Bools, known: Bools, patients: Sequence[str], sizes: SampleSizes
) -> str | None:
    sides = [
        len({p for p, chosen in zip(patients, side, strict=True) if chosen})
        for side in (present & known, ~present & known)
    ]
    if min(sides) >= sizes.platt:
        return None
    alike = " or ".join(r.name for r in rules if r.verdict == rule.verdict)
    shared = f" The label {rule.verdict} does not say whether it is {alike}." if alike != rule.name else ""
    return (
        f"{rule.name} is not calibrated: {sides[0]} patients with and {sides[1]} without it, and {sizes.platt} of each "
        f"are the fewest that make sense.{shared}"
    )


def _folds(patients: Sequence[str], with_class: set[str]) -> NDArray[np.int64]:
    """Deal patients to folds, those without the class first: every fold has its share, and names are the chance."""
    order = sorted(set(patients), key=lambda p: (p in with_class, hashlib.sha256(p.encode()).hexdigest()))
    number = {patient: k % FOLDS for k, patient in enumerate(order)}
    return np.array([number[p] for p in patients])


def _scores(
    slides: Sequence[ScoredSlide], crossed: Mapping[str, Floats], rules: Sequence[ClassRule], normal_label: str
) -> dict[str, list[float]]:
    """Return by label 1 less its probability, the highest of each patient: its slides are no independent draws."""
    worst: dict[str, dict[str, float]] = {name: {} for name in (normal_label, *(r.verdict for r in rules))}
    for number, slide in enumerate(slides):
        if not slide.exclusions_hold:
            continue
        probability = label_probability([crossed[r.name][number] for r in rules], rules, normal_label)
        score = 1 - probability[slide.label]
        worst[slide.label][slide.patient] = max(score, worst[slide.label].get(slide.patient, -math.inf))
    return {label: list(of.values()) for label, of in worst.items()}
