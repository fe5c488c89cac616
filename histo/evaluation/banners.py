"""What a reader must know before any figure: loud sentences, each with a code that other programs can look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from histo.data.synthetic import is_phantom
from histo.evaluation.cases import MISSING, STATUSES, Cohort
from histo.evaluation.training_record import Side
from histo.geometry import same_mpp
from histo.statistics import ENOUGH_TO_TELL
from histo.wording import counted

NAMED = 3  # slides that a sentence names before it breaks off


@dataclass(frozen=True)
class Banner:
    """One warning; `red` ones make a figure misleading, the others limit it."""

    code: str
    text: str
    red: bool = True


def banners_of(cohort: Cohort, sides: Sequence[Side] | None, training: dict[str, Any] | None) -> list[Banner]:
    """Return every banner that these slides, this model and this manifest call for, red ones first."""
    found = [
        *_synthetic(cohort),
        *_patients(cohort),
        *_overlap(cohort, sides),
        *_few(cohort),
        *_scales(cohort),
        *_doubts(cohort),
        *_rest(cohort),
    ]
    if not any(side.name == "train" for side in sides or ()):
        stated = (
            f" (its card says {training['train_slides']} slides)" if training and "train_slides" in training else ""
        )
        text = (
            f"There is no record here of which slides the model was trained on{stated}, so nothing proves that none "
            "of these is among them; give --model RUN/bundle with its splits.csv."
        )
        found.append(Banner("training_slides_unknown", text, red=False))
    return sorted(found, key=lambda b: not b.red)


def _synthetic(cohort: Cohort) -> list[Banner]:
    count = sum(is_phantom(c.record.path) for c in cohort.cases)
    if count == len(cohort.cases):
        text = "SYNTHETIC: no clinical meaning. Every slide is a procedural phantom; no figure here is one of patients."
        return [Banner("synthetic", text)]
    if count:
        text = f"{count} of {len(cohort.cases)} slides are synthetic phantoms mixed with others; evaluate them apart."
        return [Banner("partly_synthetic", text)]
    return []


def _patients(cohort: Cohort) -> list[Banner]:
    missing = sum(p is None for p in cohort.patients)
    if not missing:
        return []
    text = (
        f"{missing} of {len(cohort.cases)} slides have no patient in the manifest: slides of one person may count as "
        "several, and every interval may be too narrow."
    )
    return [Banner("patient_missing", text)]


def _overlap(cohort: Cohort, sides: Sequence[Side] | None) -> list[Banner]:
    """Find slides and patients that the model was made with, by its own record and by the manifest's word."""
    found = []
    made_with = {
        "train": ("trained_on", "trained on"),
        "start": ("trained_on", "seen by the model that it started from"),
        "reference": ("tuned_on_test", "used as the reference for foreign tissue"),
    }
    told: set[int] = set()  # the card and the run's file may both tell of a slide
    named: set[int] = set()  # by its patient's name alone, which its content may confirm
    for side in sorted(sides or (), key=lambda s: not s.files):
        same = {k for k, c in enumerate(cohort.cases) if side.has_slide(c)}
        shared = {k for k, c in enumerate(cohort.cases) if side.has_patient(c)} - same
        if side.name in ("train", "validation"):
            same, shared = same - told, shared - told - named
            told, named = told | same, named | shared
        code, what = made_with.get(
            side.name, ("tuned_on_test", f"used for {side.name} (epoch, temperature, thresholds)")
        )
        if same:
            text = f"{len(same)} of the judged slides were {what} in making this model: these figures flatter it."
            found.append(Banner(code, text))
        if shared:
            text = (
                f"{len(shared)} {'more ' * bool(same)}of the judged slides name a patient that the model's {side.name} "
                "slides name too; unless these are other people with the same code, the figures flatter the model."
            )
            found.append(Banner("patient_in_training", text))
    for split, code in (("train", "trained_on"), ("validation", "tuned_on_test")):
        marked = sum(c.record.split == split for c in cohort.cases)
        if marked:
            text = f"{marked} of the judged slides are marked {split} in the manifest: they are no test slides."
            found.append(Banner(code, text))
    return found


def _few(cohort: Cohort) -> list[Banner]:
    """Find labels that too few patients have: slides of one person are no independent findings."""
    found = []
    for label in cohort.labels:
        theirs = [c.record for c in cohort.cases if c.record.label == label]
        n, name = len({(r.patient, r.slide if not r.patient else "") for r in theirs}), label.replace("_", " ")
        if not n:
            text = (
                f"No slide has the label {name}: nothing here shows whether it is recognised, and balanced accuracy "
                "is the mean over the other labels alone."
            )
            found.append(Banner("label_missing", text, red=True))
        elif n < ENOUGH_TO_TELL:
            slides = f" ({counted(len(theirs), 'slide')})" if len(theirs) != n else ""
            text = (
                f"Only {counted(n, 'patient')}{slides} with the label {name}, and {ENOUGH_TO_TELL} are the least: no "
                "figure for it is worth more than its interval, which is too narrow where each has several slides."
            )
            found.append(Banner("few_positives", text))
    return found


def _doubts(cohort: Cohort) -> list[Banner]:
    """Tell what the manifest's check warns of: columns and patients that may not be what the figures take them for."""
    columns = (f"Of the manifest {f.message}." for f in cohort.doubts if f.kind == "column")
    persons = (f"In the manifest, {f}" for f in cohort.doubts if f.kind != "column")
    return [Banner("misnamed_column", t) for t in columns] + [Banner("doubtful_patient", t) for t in persons]


def _scales(cohort: Cohort) -> list[Banner]:
    """Find slides whose scale in the manifest is not the one at which they were examined."""
    stated = [
        (c.record.slide, c.record.mpp, c.result.pyramid.mpp_x)
        for c in cohort.cases
        if c.record.mpp and c.result and c.result.pyramid
    ]
    other = [s for s in stated if not same_mpp(s[1], s[2])]
    if not other:
        return []
    slide, given, examined = other[0]
    text = (
        f"{len(other)} slides were examined at another scale than the manifest gives ({slide}: {examined:g} and "
        f"{given:g} µm per pixel): areas and verdicts belong to the wrong scale; run infer on these slides with --mpp."
    )
    return [Banner("other_scale", text)]


def _rest(cohort: Cohort) -> list[Banner]:
    found = []
    slides = {s: [c.record.slide for c in cohort.cases if c.status == s] for s in STATUSES}
    n, review = len(cohort.cases), len(slides["review"])
    lost = {s: names for s in ("refused", "failed", MISSING) if (names := slides[s])}
    if lost:
        count = sum(map(len, lost.values()))
        parts = "; ".join(f"{len(names)} {s}: {_first(names)}" for s, names in lost.items())
        text = f"{count} of {n} slides have no verdict ({parts}); all of them stay in the figures and count as wrong."
        found.append(Banner("without_verdict", text, red=count > 0.05 * n))
    if review > 0.1 * n:
        text = f"{review} of {n} verdicts are suggestions that wait for review, not verdicts to be used."
        found.append(Banner("many_in_review", text, red=False))
    # The scale is a slide's own, and has a banner of its own.
    made = [c.result.provenance.settings for c in cohort.cases if c.result]  # the version is one of the settings
    keys = dict.fromkeys(key for settings in made for key in settings if key != "mpp")
    values = {key: {str(settings.get(key, "not recorded")) for settings in made} for key in keys}
    mixed = [f"{key} {' and '.join(sorted(of))}" for key, of in values.items() if len(of) > 1]
    if mixed:
        text = (
            f"The results were made in several ways ({'; '.join(mixed)}); run infer again in one of them, with "
            "--device cpu or --device cuda where the device differs."
        )
        found.append(Banner("mixed_settings", text))
    if all(c.record.label == cohort.labels[0] for c in cohort.cases):
        found.append(Banner("one_label", "Every slide is normal: sensitivity cannot be judged at all.", red=True))
    return found


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + " …" * (len(names) > NAMED)


def as_json(banners: Sequence[Banner]) -> list[dict[str, Any]]:
    """Return banners as JSON holds them."""
    return [{"code": b.code, "red": b.red, "text": b.text} for b in banners]
