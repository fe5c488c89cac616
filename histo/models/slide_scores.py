"""What a card holds of calibration: how evidence becomes a probability, and how well that was measured."""

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field

from histo.models.conformal import Conformal
from histo.schema import Share, Strict

Method = Literal["platt", "beta"]
NOT_CALIBRATED = "Slide-level probabilities are not calibrated."
OUTDATED = "Slide scores that an older histo fitted, on evidence measured otherwise, are not used: run histo calibrate."
EVIDENCE = 2  # how evidence is pooled from a map (docs/adr/0008); scores calibrated on another are worth nothing


def probability_of(log_odds: float) -> float:
    """Return 1 / (1 + exp(-log_odds)), however large it is."""
    return (1 + math.tanh(log_odds / 2)) / 2


class Bin(Strict):
    """Slides of similar probability: how many, their mean probability, and the share that has the class."""

    low: Share
    high: Share
    slides: int = Field(ge=0)
    mean_probability: Share | None
    share_present: Share | None


class Reliability(Strict):
    """How far probabilities can be believed, measured on slides that they were not fitted on.

    `ece` is the expected calibration error, `ece_floor` what a perfect model shows of it on that many slides by chance,
    `ece_debiased` their difference, at least 0. A perfect `slope` is 1, a perfect `intercept` 0.
    """

    slides: int = Field(ge=1)
    brier: Share
    ece: Share
    ece_floor: Share
    ece_debiased: Share
    slope: float
    intercept: float
    bins: tuple[Bin, ...]


class ClassCalibration(Strict):
    """Evidence of one class to its probability: logit p = a ln s - b ln(1 - s) + c, the evidence being logit s.

    Beta calibration, Kull, Silva Filho and Flach, AISTATS 2017; with a = b it is Platt scaling of the log-odds,
    Platt 1999.
    """

    method: Method
    a: float = Field(ge=0)
    b: float = Field(ge=0)
    c: float
    patients_with: int = Field(ge=0)
    patients_without: int = Field(ge=0)
    slides_with: int = Field(ge=0)
    slides_without: int = Field(ge=0)
    before: Reliability
    after: Reliability

    def probability(self, evidence: float) -> float:
        """Return the probability of the class at an evidence, in log-odds."""
        return probability_of(self.a * -np.logaddexp(0, -evidence) + self.b * np.logaddexp(0, evidence) + self.c)


class SlideCalibration(Strict):
    """Calibrated slide scores by class, what they were fitted on, and sentences on what was refused.

    `kept_from` names the model that they were fitted for, where this one was trained on from it.
    """

    evidence: Literal[2] | None = None  # None: by a histo that measured evidence otherwise
    kept_from: str | None = None
    source: str
    slides: int = Field(ge=1)
    patients: int = Field(ge=1)
    classes: dict[str, ClassCalibration]
    refused: tuple[str, ...] = ()

    @property
    def in_words(self) -> tuple[str, ...]:
        """What a report says of it: sentences."""
        if self.kept_from is not None:
            return (
                f"Slide probabilities are those of {self.kept_from}, from which this model was trained on (fitted on "
                f"{self.slides} slides of {self.patients} patients): a guide, measured for that model alone. "
                "histo calibrate fits its own.",
            )
        told = tuple(
            f"{name}: {c.method} calibration, {c.patients_with} patients with and {c.patients_without} without it, "
            f"calibration error {c.after.ece_debiased:.3f} above chance."
            for name, c in self.classes.items()
        )
        what = "Slide probabilities fitted" if self.classes else "No slide probability could be fitted"
        head = f"{what} on {self.slides} slides of {self.patients} patients ({self.source})."
        if self.classes:
            head += " A patient with both kinds of slides counts once with the class and once without it."
        return (head, *told, *self.refused)


class Calibration(Strict):
    """How logits become probabilities, and what that was fitted on; and the same for slides, where that was done."""

    temperature: float = Field(gt=0)
    fitted_on: str
    slides: SlideCalibration | None = None
    conformal: Conformal | None = None

    @property
    def of_slides(self) -> tuple[SlideCalibration | None, Conformal | None]:
        """Slide scores and sets of diagnoses; none where they were fitted on evidence that is measured otherwise."""
        current = self.slides is not None and self.slides.evidence == EVIDENCE
        return (self.slides, self.conformal) if current else (None, None)

    def without_sets(self) -> Self:
        """Return the calibration for another reference: sets of diagnoses hold for what the gate let pass to them."""
        return self.model_copy(update={"conformal": None})

    @property
    def in_words(self) -> str:
        """What a report says of it."""
        slides, conformal = self.of_slides
        if slides is not None:
            return " ".join([self.fitted_on, *slides.in_words, *(conformal.in_words if conformal else ())])
        if self.slides is not None:
            return f"{self.fitted_on} {OUTDATED}"
        return f"{self.fitted_on} {NOT_CALIBRATED}"
