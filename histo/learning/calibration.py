"""What a trained model says of its own certainty: what it keeps of its start's calibration, or what is fitted anew."""

from collections.abc import Sequence
from pathlib import Path

from histo.config import ClassesConfig, TrainConfig
from histo.data.sampling import LabelledSlide
from histo.infer import load_model
from histo.learning.presence import known_classes
from histo.learning.scores import Held
from histo.learning.start import Start
from histo.learning.validation import CellMeter
from histo.models.bundle import ModelCard, save_calibrated
from histo.models.calibration import fit_scaling
from histo.models.slide_fit import ScoredSlide, fit_slides, too_few
from histo.models.slide_scores import Calibration

SOURCE = "out-of-fold predictions of the training's own patients, by models of the folds"


def calibration_of(
    cells: CellMeter, validation: Sequence[LabelledSlide], config: TrainConfig, start: Start, best_epoch: int
) -> Calibration:
    """Return the calibration of a trained network: that of its start, or a temperature of its own.

    A network that is still its start (`best_epoch` 0) has all of it. One that was trained on keeps temperature and
    slide scores where the validation patients are too few for others: that a lesion must be as strong as in the start
    is a better guess than none. Sets of diagnoses are left behind, because they certify the start alone. Temperature
    and scores go together: evidence is measured on the scaled map.
    """
    model = start.model
    if model is not None and _holds_for(model.card, config):
        kept, name = model.card.calibration, f"{model.card.name} ({model.digest[:12]})"
        if best_epoch == 0:
            told = f"As fitted for {name}, which this network is. {kept.fitted_on}"
            return kept.model_copy(update={"fitted_on": told})
        if few := _too_few(validation, config.classes):
            assert kept.slides is not None
            return Calibration(
                temperature=kept.temperature,
                fitted_on=f"Temperature kept from {name}: {few} validation patients are too few to fit all anew.",
                slides=kept.slides.model_copy(update={"kept_from": kept.slides.kept_from or name}),
            )
    return temperature_of(cells, len(validation))


def temperature_of(cells: CellMeter, slides: int) -> Calibration:
    """Return a temperature fitted on the labelled cells of validation slides, 1 where none holds a lesion."""
    if not cells.shows_lesions:
        told = f"Not fitted: no lesion is outlined on the {slides} validation slides."
        return Calibration(temperature=1.0, fitted_on=told)
    found = round(fit_scaling(cells.logits, cells.fractions).temperature, 4)
    return Calibration(temperature=found, fitted_on=f"Temperature fitted on map cells of {slides} validation slides.")


def calibrate_out_of_fold(bundle: Path, rows: Sequence[Held]) -> tuple[str, ...]:
    """Calibrate a bundle's slide scores on slides that folds held out; return what to say of it, nothing without folds.

    Slides without a verdict are left out. What has too few patients is not calibrated, and the card says so; slide
    scores that were kept from the start stay unless every class can have its own.
    """
    model = load_model(bundle)
    classes, info = model.card.classes, model.info
    names = {c.name for c in info.classes}
    scored = [
        ScoredSlide(r.patient, r.label, r.evidence, known_classes(r.label, classes))
        for r in rows
        if set(r.evidence) == names
    ]
    if not scored:
        return ()
    slides, conformal = fit_slides(scored, info.classes, info.normal_label, SOURCE)
    before, _ = model.card.calibration.of_slides
    if before is not None and set(slides.classes) != names:
        return (*slides.refused, *before.in_words)
    save_calibrated(bundle, model, slides, conformal)
    return slides.in_words


def _holds_for(card: ModelCard, config: TrainConfig) -> bool:
    """Tell whether a card has slide scores, and evidence is measured alike with this configuration."""
    slides, _ = card.calibration.of_slides
    return (
        slides is not None
        and set(slides.classes) == {c.name for c in card.classes.lesions}
        and _measured_by(card.classes) == _measured_by(config.classes)
        and card.tile == config.tile
        and card.rule.grow == config.rule.grow
    )


def _measured_by(classes: ClassesConfig) -> tuple[object, ...]:
    return classes.normal_label, *((c.name, c.verdict, c.min_area_mm2) for c in classes.lesions)


def _too_few(validation: Sequence[LabelledSlide], classes: ClassesConfig) -> int:
    """Return the number of validation patients where they are too few to calibrate every class on, else 0."""
    records = [s.record for s in validation]
    patients = [r.patient for r in records]
    present = [known_classes(r.label, classes) for r in records]
    return len(set(patients)) if too_few([c.name for c in classes.lesions], present, patients) else 0
