"""Slide scores of a trained model calibrated on the predictions of its folds."""

from collections.abc import Sequence
from pathlib import Path

from histo.infer import load_model
from histo.learning.presence import known_classes
from histo.learning.scores import Held
from histo.models.bundle import save_calibrated
from histo.models.slide_fit import ScoredSlide, fit_slides

SOURCE = "out-of-fold predictions of the training's own patients, by models of the folds"


def calibrate_out_of_fold(bundle: Path, rows: Sequence[Held]) -> tuple[str, ...]:
    """Calibrate a bundle's slide scores on slides that folds held out; return what to say of it, nothing without folds.

    Slides without a verdict are left out. What has too few patients stays as it was, and the card says so.
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
    save_calibrated(bundle, model, slides, conformal)
    return slides.in_words
