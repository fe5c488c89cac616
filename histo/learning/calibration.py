"""What a trained model says of its own certainty: what it keeps of its start's calibration, or what is fitted anew."""

from collections.abc import Sequence
from pathlib import Path

from histo.config import ClassesConfig, TrainConfig
from histo.data.identities import CALIBRATED_ON, identities
from histo.data.sampling import LabelledSlide
from histo.infer import load_model
from histo.learning.scores import Held
from histo.learning.start import Start
from histo.learning.validation import CellMeter
from histo.models.bundle import ModelCard, save_calibrated
from histo.models.calibration import fit_scaling
from histo.models.slide_fit import ScoredSlide, fit_slides
from histo.models.slide_scores import Calibration
from histo.precedence import known_classes

SOURCE = "out-of-fold predictions of the training's own patients, by models of the folds"


def calibration_of(
    cells: CellMeter, validation: Sequence[LabelledSlide], config: TrainConfig, start: Start, best_epoch: int
) -> Calibration:
    """Return the calibration of a trained network: that of its start, or a temperature of its own.

    A network that is still its start (`best_epoch` 0) has all of it. One that was trained on keeps temperature and
    slide scores until folds or `histo calibrate` fit others: that a lesion must be as strong as in the start is a
    better guess than none. Sets of diagnoses are left behind, because they certify the start alone. Temperature and
    scores go together: evidence is measured on the scaled map.
    """
    kept, told = kept_of_start(start, config, trained=best_epoch > 0)
    if kept is not None:
        return kept
    own = temperature_of(cells, sum(bool(s.class_cells.any()) for s in validation))
    return own.model_copy(update={"fitted_on": f"{own.fitted_on} {told}".rstrip()})


def kept_of_start(start: Start, config: TrainConfig, trained: bool = True) -> tuple[Calibration | None, str]:
    """Return what is kept of the start's calibration, and a sentence on it, which is empty where there is none."""
    model = start.model
    scores, _ = model.card.calibration.of_slides if model is not None and start.knows_classes else (None, None)
    if model is None or scores is None or not scores.classes:
        return None, ""
    name = f"{model.card.name} ({model.digest[:12]})"
    if differs := _measured_otherwise(model.card, config):
        return None, f"Slide scores of {name} are left behind, because {' and '.join(differs)} differ."
    if not trained:
        return model.card.calibration, f"All of the calibration of {name} is kept."
    name = scores.kept_from or name
    told = f"Temperature of the map kept from {name}, from which this model was trained on."
    slides = scores.model_copy(update={"kept_from": name})
    kept = Calibration(temperature=model.card.calibration.temperature, fitted_on=told, slides=slides)
    return kept, f"Temperature and slide scores of {name} are kept until folds or `histo calibrate` fit others."


def temperature_of(cells: CellMeter, slides: int) -> Calibration:
    """Return a temperature fitted on the labelled cells of so many validation slides, 1 where none holds a lesion."""
    if not cells.shows_lesions:
        told = f"Not fitted: no lesion is outlined on the {slides} validation slides that have labels of their own."
        return Calibration(temperature=1.0, fitted_on=told)
    found = round(fit_scaling(cells.logits, cells.fractions).temperature, 4)
    return Calibration(temperature=found, fitted_on=f"Temperature fitted on map cells of {slides} validation slides.")


def calibrate_out_of_fold(bundle: Path, rows: Sequence[Held]) -> tuple[str, ...]:
    """Calibrate a bundle's slide scores on slides that folds held out; return what to say of it, nothing without folds.

    Slides without a verdict are left out. What has too few patients is not calibrated, and the card says so. Slide
    scores that were kept from the start stay unless every class can have its own, and those of a network that is its
    start, which were measured for it, stay anyway.
    """
    model = load_model(bundle)
    classes, info = model.card.classes, model.info
    names = {c.name for c in info.classes}
    scored = [
        ScoredSlide(r.patient, r.label, r.evidence, known_classes(r.label, classes.lesions), r.exclusions_hold)
        for r in rows
        if set(r.evidence) == names
    ]
    if not scored:
        return ()
    before, _ = model.card.calibration.of_slides
    if before is not None and before.kept_from is None:
        return before.in_words
    slides, conformal = fit_slides(scored, info.classes, info.normal_label, SOURCE, current=before)
    if before is not None and set(slides.classes) != names:
        return (*slides.refused, *before.in_words)
    save_calibrated(bundle, model, slides, conformal, {CALIBRATED_ON: identities((), ())})
    return slides.in_words


def _measured_otherwise(card: ModelCard, config: TrainConfig) -> list[str]:
    """Return the keys of a configuration with which evidence is measured otherwise than with a card."""
    pairs: list[tuple[str, object, object]] = [
        ("the normal label", card.classes.normal_label, config.classes.normal_label),
        ("verdicts or smallest areas", _counted(card.classes), _counted(config.classes)),
        *((f"`tile.{key}`", getattr(card.tile, key), wanted) for key, wanted in config.tile),
        ("`rule.grow`", card.rule.grow, config.rule.grow),
    ]
    return [key for key, theirs, ours in pairs if theirs != ours]


def _counted(classes: ClassesConfig) -> list[tuple[str, str, float]]:
    return [(c.name, c.verdict, c.min_area_mm2) for c in classes.lesions]
