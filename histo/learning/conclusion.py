"""The end of a run: held-out verdicts, suspicious labels, pictures and the report with its warnings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import histo
from histo.config import TrainConfig
from histo.data.identities import START_CALIBRATED_ON, STARTED_FROM, Known
from histo.data.records import SlideRecord
from histo.data.sampling import LabelledSlide, gaps_of
from histo.data.splits import HELD_OUT
from histo.data.synthetic import known_by
from histo.infer import load_model
from histo.learning.audit import Audit, audit
from histo.learning.calibration import calibrate_out_of_fold
from histo.learning.diary import judged_blind
from histo.learning.finish import add_reference
from histo.learning.folds import deal_folds
from histo.learning.pages import Section, write_pages
from histo.learning.pictures import draw_confusion, draw_curves
from histo.learning.run_folder import UNFINISHED, describe_run, finish
from histo.learning.scores import (
    Held,
    Suspect,
    read_held_out,
    score_held_out,
    suspects,
    write_held_out,
    write_suspects,
)
from histo.learning.start import build_network
from histo.models.bundle import rewrite
from histo.models.foreign import Reference
from histo.results import ENOUGH_REFERENCES
from histo.statistics import clopper_pearson
from histo.timing import Say
from histo.wording import counted

VALIDATION = "validation"
SHOWN = 12
NO_GAIN = (
    "No epoch was better on the validation patients than the start: the weights of this model are those of its start."
)
NO_DEVICE = "Research use only. Not a medical device. No figure here replaces a test on patients kept aside."

Fit = Callable[[Path, Sequence[LabelledSlide], Sequence[LabelledSlide]], Path]


def held_out_by_folds(
    run: Path, config: TrainConfig, slides: Sequence[LabelledSlide], fit: Fit, device: str, say: Say
) -> list[Held]:
    """Train once a fold without its slides and score these; nothing without `cross_validation`.

    Each fold validates on patients of its own, so that the slides it holds out choose nothing. A finished fold is kept
    as `folds/<k>/held_out.csv`; all together are `out_of_fold.csv`. Raises `UsageError` where the start knows slides.
    """
    if not config.cross_validation.is_wanted:
        return []
    labels, by_name = config.classes.labels, {s.record.slide: s for s in slides}
    parts = deal_folds(config, [s.record for s in slides], build_network(config))
    rows: list[Held] = []
    for number, (name, learn, validate, held) in enumerate(parts, start=1):
        folder = run / "folds" / str(number)
        describe_run(folder, config, {"train": learn, VALIDATION: validate, HELD_OUT: held})
        table = folder / "held_out.csv"
        if not table.exists():
            say(f"{number}/{len(parts)}, {name}: {len(learn)} slides to train on, {len(held)} held out")
            bundle = fit(folder, [by_name[r.slide] for r in learn], [by_name[r.slide] for r in validate])
            write_held_out(table, score_held_out(bundle, held, device, name), labels)
        rows += read_held_out(table, labels)
    write_held_out(run / "out_of_fold.csv", rows, labels)
    return rows


def conclude(
    run: Path,
    config: TrainConfig,
    trained: Sequence[LabelledSlide],
    validation: Sequence[LabelledSlide],
    out_of_fold: Sequence[Held],
    device: str,
    say: Say,
) -> None:
    """Score the validation slides, note the counts in the card, write tables, pictures and the report: the run is done.

    The bundle bears its name from then on, so that a run that was stopped leaves none that looks whole.
    """
    labels, bundle = config.classes.labels, run / UNFINISHED
    add_reference(bundle, trained, validation, device, say)
    for line in calibrate_out_of_fold(bundle, out_of_fold):
        say(line)
    checked = score_held_out(bundle, [s.record for s in validation], device, VALIDATION)
    write_held_out(run / "validation.csv", checked, labels)
    _note(bundle, checked)
    in_review = sum(r.status == "review" for r in checked)
    say(f"validation: {sum(r.right for r in checked)} of {len(checked)} verdicts right, {in_review} in review")
    held = out_of_fold or checked
    if out_of_fold:
        say(f"out of fold: {sum(r.right for r in held)} of {len(held)} verdicts right")
    doubted = suspects(held)
    write_suspects(run / "suspicious.csv", doubted)
    draw_curves(run / "metrics.csv", run / "learning_curves.png")
    how = "out-of-fold" if out_of_fold else "validation"
    draw_confusion(held, labels, f"{how} verdicts, {len(held)} slides", run / "confusion.png")
    card = load_model(bundle).card
    found = _looked_over([*trained, *validation], held, config)
    warnings = [
        *([NO_GAIN] if card.training["best_epoch"] == 0 else []),
        *judged_blind(config.stop, validation),
        *_few_reference(card.reference),
        *found.warnings,
        # A slide may teach nothing, or its diagnosis alone, for what was found when it was opened.
        *(f"{gap}." for slide in [*trained, *validation] for gap in gaps_of(slide)),
        *_flattered(_known(card.training, held, [*trained, *validation]), bool(out_of_fold)),
    ]
    for warning in warnings:
        say(f"warning: {warning}")
    sections = [
        Section("Warnings", [NO_DEVICE], points=warnings, is_warning=True),
        _slides(config, trained, validation),
        _figures(held, labels, how),
        *_by_fold(out_of_fold),
        Section("Learning", [_how_trained(card.training), card.calibration.in_words], pictures=["learning_curves.png"]),
        _suspicious(doubted, how),
        _shortcuts(found),
    ]
    write_pages(run, f"Training report: {config.name}", sections)
    finish(run)
    say(f"The report is {run / 'report.html'}")


def _note(bundle: Path, rows: Sequence[Held]) -> None:
    """Write the validation counts into the card."""
    model = load_model(bundle)
    validation = {
        "slides": len(rows),
        "right": sum(r.right for r in rows),
        "in_review": sum(r.status == "review" for r in rows),
        "note": "These slides chose the best epoch, and a temperature that was fitted; they are no test set.",
    }
    rewrite(model, bundle, {}, {"validation": validation})


def _few_reference(reference: Reference | None) -> list[str]:
    if reference is not None and reference.limit_patients >= ENOUGH_REFERENCES:
        return []
    persons = "no patient" if reference is None else counted(reference.limit_patients, "patient")
    return [
        f"The limit of foreign tissue is set by {persons}, and {ENOUGH_REFERENCES} are the least that tell much: "
        "what another model sends to review may be done with this one. Give it slides of more with histo reference."
    ]


def _looked_over(slides: Sequence[LabelledSlide], held: Sequence[Held], config: TrainConfig) -> Audit:
    teaching = [s for s in slides if len(s.tiles)]
    records, traits = [s.record for s in teaching], [s.traits for s in teaching]
    whole = [(s.record.patient, s.record.label) for s in slides]
    return audit(records, traits, config.classes.labels, whole, [(h.patient, h.label) for h in held], config.seed)


def _known(training: Mapping[str, Any], held: Sequence[Held], slides: Sequence[LabelledSlide]) -> list[SlideRecord]:
    """Return those of the slides held out that the start of a training had learnt from, or was calibrated on."""
    judged = {h.slide for h in held}
    return known_by(
        Known.by(training, STARTED_FROM, START_CALIBRATED_ON), [s.record for s in slides if s.record.slide in judged]
    )


def _flattered(known: Sequence[SlideRecord], cross_validated: bool) -> list[str]:
    """Return why the figures on the validation slides are too good; `known` are those that the start has seen."""
    told = []
    if known:
        names = ", ".join(r.slide for r in known[:3]) + " …" * (len(known) > 3)
        told.append(
            f"The model that this one started from has learnt from, or was calibrated on, {len(known)} of the slides "
            f"that were held out, or patients of these names ({names}): figures on them, and what is calibrated on "
            "them, flatter."
        )
    if not cross_validated:
        told.append(
            "The validation slides chose the best epoch, so their figures flatter; set cross_validation for "
            "out-of-fold figures, and keep test patients aside."
        )
    return told


def _slides(config: TrainConfig, trained: Sequence[LabelledSlide], validation: Sequence[LabelledSlide]) -> Section:
    rows = [["label", "patients", "slides to train on", "of these with a diagnosis only", "slides to validate on"]]
    for label in config.classes.labels:
        learn = [s for s in trained if s.record.label == label]
        check = [s for s in validation if s.record.label == label]
        patients = len({s.record.patient for s in [*learn, *check]})
        weak = sum(s.diagnosis_only for s in learn)
        rows.append([label, str(patients), str(len(learn)), str(weak), str(len(check))])
    return Section("Slides", table=rows)


def _figures(rows: Sequence[Held], labels: Sequence[str], how: str) -> Section:
    table = [["label", "slides", "verdict right", "share", "95 % interval (Clopper-Pearson)"]]
    shares = []
    for label in labels:
        those = [r for r in rows if r.label == label]
        if those:
            right = sum(r.right for r in those)
            low, high = clopper_pearson(right, len(those))
            shares.append(right / len(those))
            table.append([label, str(len(those)), str(right), f"{shares[-1]:.2f}", f"{low:.2f} to {high:.2f}"])
    review = sum(r.status == "review" for r in rows)
    text = (
        f"Verdicts of histo infer on {len(rows)} {how} slides: balanced accuracy {sum(shares) / len(shares):.2f} over "
        f"{len(shares)} of {len(labels)} labels, {review} of them sent to review. The intervals take slides as "
        "independent; several of one patient are not."
    )
    return Section("Held-out verdicts", [text], table=table, pictures=["confusion.png"])


def _by_fold(rows: Sequence[Held]) -> list[Section]:
    """Return a table of what each fold held out: by site it tells whether the model bears one that it has not seen."""
    if not rows:
        return []
    table = [["held out by the model", "slides", "verdict right", "95 % interval (Clopper-Pearson)", "in review"]]
    for name in dict.fromkeys(r.held_out_by for r in rows):
        those = [r for r in rows if r.held_out_by == name]
        right, review = sum(r.right for r in those), sum(r.status == "review" for r in those)
        low, high = clopper_pearson(right, len(those))
        table.append([name, str(len(those)), str(right), f"{low:.2f} to {high:.2f}", str(review)])
    return [Section("By fold", table=table)]


def _how_trained(training: Mapping[str, Any]) -> str:
    measured = training.get("validation_patients_measured", {})
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in measured.items())
    kept = "No epoch was better on the validation patients than the start, whose weights these are"
    if training["best_epoch"]:
        kept = f"The best epoch on the validation patients was number {training['best_epoch']}"
    return (
        f"histo {histo.__version__} started {training['started']}. {kept}; as it is kept, with BatchNorm measured anew "
        f"where that is asked for: {told}. metrics.csv has every epoch as it was trained."
    )


def _suspicious(found: Sequence[Suspect], how: str) -> Section:
    rows = [["rank", "slide", "patient", "label", "likelier", "margin"]]
    for rank, s in enumerate((s for s in found[:SHOWN] if s.margin < 0), start=1):
        rows.append([str(rank), s.held.slide, s.held.patient, s.held.label, s.other, f"{s.margin:.2f}"])
    text = (
        f"Slides whose label the {how} prediction contradicts, most suspicious first (normalised margin, Northcutt et "
        "al., JAIR 2021): look at them again. suspicious.csv ranks all that were held out."
    )
    none = [] if len(rows) > 1 else ["No label is contradicted."]
    return Section("Suspicious labels", [text, *none], table=rows if len(rows) > 1 else ())


def _shortcuts(found: Audit) -> Section:
    rows = [["property", "label", "AUROC", "permutation p"]]
    rows += [[s.name, s.label, f"{s.auroc:.2f}", f"{s.p:.4f}"] for s in found.shortcuts[:SHOWN]]
    text = (
        "How well single properties of the slides tell a label from the others, whatever the direction; p counts all "
        "properties (maximum statistic over 2000 shuffles by patient). A property that tells it well may be learnt "
        "instead of the tissue."
    )
    return Section("Shortcuts", [text], table=rows if len(rows) > 1 else ())
