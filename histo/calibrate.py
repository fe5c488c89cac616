"""Calibrating a model on labelled slides that it was not trained on: `histo calibrate`."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from histo.archive.examine import RunOptions
from histo.archive.ledger import Ledger
from histo.archive.listing import absolute
from histo.archive.local import Step, run_slides
from histo.data.identities import CALIBRATED_ON, LEARNT_FROM, STARTED_FROM, Known, identities
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.data.synthetic import is_phantom, person_of
from histo.errors import UsageError
from histo.infer import load_model, settings_of
from histo.models.bundle import Model, load_bundle, refuse_to_overwrite, save_calibrated
from histo.models.slide_fit import SIZES, SampleSizes, ScoredSlide, fit_slides, too_few
from histo.models.slide_scores import Reliability, SlideCalibration
from histo.out_folder import INDEX, LEDGER, RESULT, RESULTS, model_of_last_run
from histo.precedence import known_classes
from histo.results import SlideResult, load_result
from histo.timing import Progress, Say

JUDGED = ("done", "review")  # a result that is worth keeping


@dataclass(frozen=True)
class CalibrateOptions:
    """Where the slides' results are kept, how they are made, and what is known of the patients' names.

    `results` is the folder of an earlier `histo infer --out`, whose slides are not scored again where slide, model and
    settings are the same. With `other_persons` patients may be called as in training and be others.
    """

    results: Path | None = None
    run: RunOptions = field(default_factory=RunOptions)
    other_persons: bool = False
    sizes: SampleSizes = SIZES


def calibrate(
    bundle: Path,
    manifest: Path,
    out: Path,
    options: CalibrateOptions,
    say: Say = lambda line: None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_start: Callable[[str], Progress | None] = lambda slide_id: None,
) -> Model:
    """Score the slides of a manifest, fit slide scores and sets of diagnoses on them, and write a new bundle to `out`.

    Raises `UsageError` for a wrong manifest, for slides or patients that the model was trained on, for an `out` that
    exists, for `results` that were made otherwise, and when there are too few patients to fit anything, or all that the
    model has; `ModelError` for a bundle that is none.
    """
    refuse_to_overwrite(out)
    model = load_model(bundle)
    records = _not_for_testing(manifest, read_manifest(manifest, model.card.classes.labels, say), say)
    checked = _refuse_known(records, model, options.other_persons)
    say(checked)
    _refuse_by_labels(manifest, records, model, options.sizes)
    folder = options.results or out.absolute().with_name(f"{out.absolute().name}_results")
    _refuse_other_model(folder, model)
    if options.results:
        _refuse_other_settings(folder, records, model, options.run)
    results = _score(records, folder, model, options.run, on_step, on_start)
    used = [(r, found) for r, found in zip(records, results, strict=True) if found.verdict is not None]
    left_out = len(records) - len(used)
    if left_out:
        say(f"{left_out} of {len(records)} slides have no verdict and are left out; {folder / INDEX} says why")
    against = sum(found.verdict is not None and not found.verdict.exclusions_hold for _, found in used)
    if against:
        say(f"a check speaks against {against} of {len(used)} slides, which count for probabilities, but for no set")
    if not used:
        raise UsageError(f"{manifest} calibrates nothing: no slide has a verdict; {folder / INDEX} says why")
    scored = [_scored(record, found, model, folder) for record, found in used]
    slides, conformal = fit_slides(
        scored,
        model.info.classes,
        model.info.normal_label,
        f"{_kept_aside([r for r, _ in used])}; {checked}",
        options.sizes,
        model.card.calibration.of_slides[0],
    )
    if not slides.classes:
        raise UsageError(f"{manifest} calibrates nothing: {' '.join(slides.refused)} Add slides of more patients")
    _refuse_loss(manifest, model, slides.classes, slides.refused)
    kept = identities([found.sha256 or "" for _, found in used], [r.patient for r, _ in used])
    save_calibrated(out, model, slides, conformal, {CALIBRATED_ON: kept})
    for line in (*_told(slides), *slides.refused, *(conformal.in_words if conformal else ())):
        say(line)
    return load_bundle(out)


def _told(slides: SlideCalibration) -> Iterator[str]:
    for name, one in slides.classes.items():
        yield f"{name}: {one.method}, {one.slides_with} slides with and {one.slides_without} without it"
        yield f"  before {_figures(one.before)}"
        yield f"  after  {_figures(one.after)}, each slide by a fit without its patient"
        if one.after.brier > one.before.brier:
            yield "  the new scores fit these slides no better than those of before; more patients may tell"


def _kept_aside(records: Sequence[SlideRecord]) -> str:
    made = sum(is_phantom(r.path) for r in records)
    if made in (0, len(records)):
        return "phantom slides kept aside" if made else "slides kept aside"
    return f"slides kept aside, {made} of them phantoms"


def _figures(found: Reliability) -> str:
    return (
        f"Brier {found.brier:.4f}, calibration error {found.ece:.3f} (by chance {found.ece_floor:.3f}, above chance "
        f"{found.ece_debiased:.3f}), slope {found.slope:.2f}, intercept {found.intercept:.2f}"
    )


def _not_for_testing(manifest: Path, records: Sequence[SlideRecord], say: Say) -> list[SlideRecord]:
    """Leave out the slides that are marked `test`, which are kept for the end; raise `UsageError` where all are."""
    kept = [r for r in records if r.split != "test"]
    if not kept:
        raise UsageError(f"every slide of {manifest} is marked test, which is for the end; calibrate on other slides")
    if len(kept) < len(records):
        say(f"{len(records) - len(kept)} slides marked test are kept for the end and not calibrated on")
    return kept


def _refuse_known(records: Sequence[SlideRecord], model: Model, other_persons: bool) -> str:
    """Return a sentence on what was checked; raise `UsageError` for slides or patients that the model learnt from."""
    known = Known.by(model.card.training, LEARNT_FROM, STARTED_FROM)
    if not known.is_listed:
        return "the card does not say which slides the model was trained on, so that they are others is not checked"
    persons = set() if other_persons else {person_of(r) for r in records} - {""}
    patients = sorted(filter(known.has_patient, persons))
    if patients:
        were = "was" if len(patients) == 1 else "were"
        raise UsageError(
            f"{_some(patients)} of the manifest {were} in the training of this model; calibrate on other patients, or "
            "say --other-persons where only the names are the same"
        )
    slides = [r.slide for r in records if known.has_slide(sha256_of(r.path))]
    if slides:
        raise UsageError(f"{_some(slides)} of the manifest: the model was trained on the same file; leave it out")
    return f"none of the {'slides and patients' if persons else 'slides'} was in the training"


def _refuse_by_labels(manifest: Path, records: Sequence[SlideRecord], model: Model, sizes: SampleSizes) -> None:
    """Raise `UsageError` before anything is scored when the labels alone show that nothing is gained, or some lost."""
    names = [c.name for c in model.info.classes]
    present = [known_classes(r.label, model.card.classes.lesions) for r in records]
    told = too_few(model.info.classes, present, [r.patient for r in records], sizes)
    if len(told) == len(names):
        raise UsageError(f"{manifest} calibrates nothing: {' '.join(told.values())} Add slides of more patients")
    _refuse_loss(manifest, model, set(names) - set(told), told.values())


def _refuse_loss(manifest: Path, model: Model, fitted: Container[str], why: Iterable[str]) -> None:
    """Raise `UsageError` where a class would lose the slide scores that it has, and another would get new ones."""
    before, _ = model.card.calibration.of_slides
    lost = [name for name in (before.classes if before else ()) if name not in fitted]
    if lost:
        raise UsageError(
            f"{manifest} would take the slide scores of {_some(lost)} from the model: {' '.join(why)} Add slides of "
            "more patients"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _refuse_other_model(folder: Path, model: Model) -> None:
    """Raise `UsageError` for a folder with another model's results: scoring would put new ones in their place."""
    if model_of_last_run(folder) not in (None, model.digest):
        raise UsageError(f"{folder} holds results of another model; give the model that made them, or other --results")


def _refuse_other_settings(folder: Path, records: Sequence[SlideRecord], model: Model, options: RunOptions) -> None:
    """Raise `UsageError` where results of these slides were made otherwise: new ones would take their place."""
    if not (folder / LEDGER).is_file():
        return
    ledger = Ledger(folder / LEDGER)
    try:
        known = {e.path: e.slide_id for e in ledger.entries() if e.model == model.digest and e.status in JUDGED}
    finally:
        ledger.close()
    others = []
    for record in records:
        slide_id = known.get(absolute(record.path))
        if slide_id and (result := folder / RESULTS / slide_id / RESULT).is_file():
            made = load_result(result).provenance.settings
            wanted = settings_of(record.mpp, options.device, options.mode)
            others += [
                f"{record.slide} with {key} {made.get(key)}, and not {wanted.get(key)}"
                for key in sorted({*made, *wanted})
                if made.get(key) != wanted.get(key)
            ]
    if others:
        raise UsageError(
            f"{folder} holds results that were made otherwise and would be replaced: {_some(others)}. Leave --results "
            "away to score the slides anew elsewhere; scales (mpp) can be given in the manifest's column of that name"
        )


def _score(
    records: Sequence[SlideRecord],
    folder: Path,
    model: Model,
    options: RunOptions,
    on_step: Callable[[Step], None],
    on_start: Callable[[str], Progress | None],
) -> list[SlideResult]:
    """Examine every slide into `folder`, as `histo infer` does; return the results in the order of the records."""
    by_scale = sorted(range(len(records)), key=lambda k: records[k].mpp or 0.0)
    results: dict[int, SlideResult] = {}
    for mpp, group in groupby(by_scale, key=lambda k: records[k].mpp):
        numbers = list(group)
        paths = [records[k].path for k in numbers]
        found = run_slides(paths, folder, model, replace(options, mpp=mpp), on_step, on_start)
        results |= dict(zip(numbers, found, strict=True))
    return [results[k] for k in range(len(records))]


def _scored(record: SlideRecord, found: SlideResult, model: Model, folder: Path) -> ScoredSlide:
    evidence = {b.class_name: b.evidence for b in found.burdens if b.evidence is not None}
    if len(evidence) < len(model.info.classes):
        raise UsageError(f"{folder} holds results of an earlier histo without evidence; give another --results")
    assert found.verdict is not None
    known = known_classes(record.label, model.card.classes.lesions)
    return ScoredSlide(record.patient, record.label, evidence, known, found.verdict.exclusions_hold)
