"""Results and truth become a reviewer's report: `evaluate` writes report.json, report.html and three checklists."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from histo.data.identities import told_apart
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.data.synthetic import person_of
from histo.errors import ArchiveError, SlideError, UsageError
from histo.evaluation.abstention import abstention, conformal
from histo.evaluation.answers import answers_of
from histo.evaluation.banners import as_json, banners_of
from histo.evaluation.baselines import learnt_judges
from histo.evaluation.calibration import brier, debiased, reliability, slope_and_intercept
from histo.evaluation.card_note import summary
from histo.evaluation.cases import Cohort, read_cohort
from histo.evaluation.checklists import write_checklists
from histo.evaluation.comparators import (
    Judge,
    agreement_of_readers,
    columns_without_labels,
    compare,
    majority,
    other_run,
    readers,
)
from histo.evaluation.deletion import Deletion, called, faithfulness
from histo.evaluation.discrimination import among_judged, primary, ranks, sample_size
from histo.evaluation.freeze import freeze, partitions, reference
from histo.evaluation.gallery import errors_of
from histo.evaluation.groups import false_calls, flow, population, several_classes, subgroups
from histo.evaluation.intervals import words
from histo.evaluation.learning_curve import learning_curve
from histo.evaluation.locating import Held, localisation, measure_all
from histo.evaluation.other_reports import SCHEMA
from histo.evaluation.page import write_page
from histo.evaluation.pool_probe import Pooled, probe
from histo.evaluation.resampling import ROUNDS, Bootstrap
from histo.evaluation.robustness import foreign, robustness
from histo.evaluation.training_record import sides_of
from histo.evaluation.truth import Unannotated
from histo.evaluation.usefulness import at_prevalences, decisions
from histo.faithfulness import deletions
from histo.files import write_text
from histo.models.bundle import SHIPPED, Model, ModelCard, load_bundle, note_figures
from histo.models.engine import Engines
from histo.out_folder import EVALUATION
from histo.reference import sample_of
from histo.results import RESEARCH_USE
from histo.timing import Progress


@dataclass(frozen=True)
class Options:
    """What an evaluation may be told beside results and manifest.

    `model` is the bundle that made the results (its card and the training's `splits.csv` beside it are read);
    `split` which slides of the manifest to judge; `against` another run on the same slides; `train` the manifest of
    the slides that baselines learn from; `smaller` reports of models that learnt from fewer slides, for the learning
    curve; `familiar` the report of this model on slides like those it learnt from, to see what changes;
    `faithful` how many slides are looked at again with their heatmap's strongest cells painted over; `aliases` other
    words for classes in annotation files; `unannotated` what tissue is that nobody outlined on a slide with lesions:
    normal or ignore, as the model was trained if None. With `note` the card of `model` gets the headline figures under
    this name.
    """

    model: Path | None = None
    split: str | None = None
    against: Path | None = None
    train: Path | None = None
    smaller: Sequence[Path] = ()
    familiar: Path | None = None
    faithful: int = 0
    aliases: Mapping[str, str] = field(default_factory=dict)
    unannotated: Unannotated | None = None
    seed: int = 0
    rounds: int = ROUNDS
    note: str | None = None


def evaluate(
    out: Path,
    manifest: Path,
    report: Path | None = None,
    options: Options | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Judge the results in `out` by a manifest, write the report's files and return what `report.json` holds.

    Files go to `report`, `out/evaluation` if None: `report.json`, `report.html`, `claim.csv`, `tripod_ai.csv`,
    `stard_ai.csv`. Every slide of the manifest counts, with or without a verdict. Intervals are exact and by patient.
    Raises `UsageError` for what cannot be judged: see `read_cohort`; a model or an annotation that does not fit.
    """
    options = options or Options()
    if options.note and options.model is None:
        raise UsageError("--note writes into the card of the bundle that --model names; give --model")
    cohort = read_cohort(out, manifest, options.split)
    folder = _made(report or out / EVALUATION)
    bundle, card = _card(cohort, options.model)
    options, unannotated = _as_trained(options, card)
    held, located = measure_all(cohort, options.aliases, progress, unannotated)
    bootstrap = Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], options.rounds, options.seed)
    sides = sides_of(bundle, card.training if card else None)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "research_use": RESEARCH_USE,
        "banners": as_json(banners_of(cohort, sides, card.training if card else None)),
        "flow": flow(cohort),
        "population": population(cohort),
        "reference": reference(cohort),
        "freeze": freeze(cohort, card.model_dump(mode="json") if card else None),
        "partitions": partitions(cohort, sides),
        "primary": primary(cohort, bootstrap),
        "ranking": ranks(cohort, held, bootstrap),
        "several_classes": several_classes(cohort, held),
        "false_calls": false_calls(cohort, bootstrap),
        "abstention": abstention(cohort, bootstrap),
        "calibration": _calibration(cohort, held, options.seed) | {"conformal": conformal(cohort, bootstrap)},
        "localisation": {"unannotated": unannotated} | localisation(cohort, located, bootstrap),
        "subgroups": subgroups(cohort, bootstrap),
        "faithfulness": _faithfulness(cohort, bundle, options),
        "foreign": foreign(cohort),
        "comparators": _comparators(cohort, bootstrap, options, bundle, unannotated),
        "errors": errors_of(cohort),
        "decision_curve": decisions(cohort),
        "bootstrap": {"rounds": options.rounds, "seed": options.seed, "patients": bootstrap.patients},
    }
    found["sample_size"] = sample_size(found["primary"]["by_label"])
    found["learning_curve"] = learning_curve(found, options.smaller)
    found["robustness"] = robustness(found, options.familiar, found["freeze"]["card"])
    found["at_prevalences"] = {k: at_prevalences(v) for k, v in among_judged(cohort).items() if k in cohort.labels[1:]}
    _write(folder, found, cohort, options.aliases)
    if options.note and options.model:
        note_figures(options.model, options.note, summary(_plain(found)))
    return found


def _made(folder: Path) -> Path:
    """Make the folder of a report before anything is measured for it. Raises `ArchiveError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveError(f"no report can be written to {folder} ({error.strerror}); give another --report") from error
    return folder


def _write(folder: Path, found: dict[str, Any], cohort: Cohort, aliases: Mapping[str, str]) -> None:
    found["checklists"] = write_checklists(folder, answers_of(found))
    write_page(folder / "report.html", found, cohort, aliases)
    text = json.dumps(_plain(found), indent=1, allow_nan=False, ensure_ascii=False)
    write_text(folder / "report.json", text.encode("utf-8", "replace").decode("utf-8") + "\n")


def headline(report: Mapping[str, Any]) -> list[str]:
    """Return the lines that a person reads first: every banner, then the figures with n and interval."""
    overall, kept = report["primary"]["overall"], report["abstention"]
    lines = [b["text"] for b in report["banners"]]
    lines.append(f"slides: {report['flow']['slides']} of {report['flow']['patients']} patients")
    lines.append(f"balanced accuracy: {words(overall['balanced_accuracy'])}")
    for name in ("decided", "review", "accuracy_on_decided", "worst_case_accuracy"):
        lines.append(f"{name.replace('_', ' ')}: {words(kept[name])}")
    for judge in report["comparators"]["judges"]:
        lines.append(f"{judge['name']}: balanced accuracy {words(judge['balanced_accuracy'])}")
    if familiar := report["robustness"]["familiar"]:
        row = familiar["change"][0]
        lines.append(f"{row['measure']} on {familiar['slides']} familiar slides: {words(row['familiar'])}")
    for name, rows in report["faithfulness"]["classes"].items():
        falls = ", ".join(f"{r['strongest']:.2f} and {r['anywhere']:.2f} at {r['share']:.0%}" for r in rows)
        lines.append(f"evidence of {name} lost with the strongest tissue, and with any: {falls} of it")
    return lines


def _as_trained(options: Options, card: ModelCard | None) -> tuple[Options, Unannotated]:
    """Return the options with the words for classes that the model's training was told, and what bare tissue is.

    What the options say counts first; where nobody knows, tissue without outlines is normal.
    """
    data = card.training.get("data") if card else None
    told: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    words = told.get("aliases")
    aliases = {str(word): str(meant) for word, meant in words.items()} if isinstance(words, Mapping) else {}
    trained: Unannotated = "ignore" if told.get("unannotated") == "ignore" else "normal"
    return replace(options, aliases={**aliases, **options.aliases}), options.unannotated or trained


def _card(cohort: Cohort, model: Path | None) -> tuple[Path | None, ModelCard | None]:
    """Return the bundle and its card: the one that is given, or the shipped one where that made the results."""
    loaded = load_bundle(model or SHIPPED, lazy=True)
    if loaded.digest == cohort.model.digest:
        return model or SHIPPED, loaded.card
    if model is not None:
        raise UsageError(
            f"{model} did not make the results in {cohort.out} (its digest is {loaded.digest[:12]}, theirs "
            f"{cohort.model.digest[:12]}); give the bundle that did, or leave --model away"
        )
    return None, None


def _calibration(cohort: Cohort, held: Sequence[Held], seed: int) -> dict[str, Any]:
    """Return calibration of the verdict's own probability, of every label's, and of every class's presence."""
    judged = [c for c in cohort.cases if c.verdict]
    probability = np.array([c.sure for c in judged])
    right = np.array([c.right for c in judged], bool)
    found: dict[str, Any] = {"verdict": _calibrated(probability, right, seed), "labels": {}, "classes": {}}
    for label in cohort.labels:
        chance = np.array([c.verdict.probability.get(label, 0.0) for c in judged if c.verdict])
        found["labels"][label] = _calibrated(chance, np.array([c.record.label == label for c in judged], bool), seed)
    for rule in cohort.model.classes:
        pairs = [
            (burden.presence, bool(h[rule.name]))
            for c, h in zip(cohort.cases, held, strict=True)
            if c.result and h[rule.name] is not None
            for burden in c.result.burdens
            if burden.class_name == rule.name
        ]
        found["classes"][rule.name] = _calibrated(
            np.array([p for p, _ in pairs], float), np.array([t for _, t in pairs], bool), seed
        )
    return found


def _calibrated(probability: np.ndarray, happened: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "ece": debiased(probability, happened, seed),
        "brier": brier(probability, happened),
        "line": slope_and_intercept(probability, happened),
        "reliability": reliability(probability, happened),
    }


def _comparators(
    cohort: Cohort, bootstrap: Bootstrap, options: Options, bundle: Path | None, unannotated: Unannotated
) -> dict[str, Any]:
    # Of a manifest that was split, baselines learn from what the model may have learnt from.
    listed = [r for r in read_manifest(options.train, cohort.labels) if r.split != "test"] if options.train else []
    trained = _apart(listed, cohort, options.train) if options.train else []
    read = readers(cohort)
    judges = [majority(cohort, trained), *read]
    if options.against:
        judges.append(other_run(cohort, options.against))
    if trained:
        judges += learnt_judges(cohort, trained, options.aliases, unannotated)
        if bundle:
            judges.append(_probe(cohort, trained, load_bundle(bundle)))
    return {
        "judges": compare(cohort, judges, bootstrap),
        "reader_agreement": agreement_of_readers(read, cohort.labels),
        "columns_without_labels": columns_without_labels(cohort),
    }


def _probe(cohort: Cohort, trained: Sequence[SlideRecord], model: Model) -> Judge:
    engines = Engines(model)

    def pooled(record: SlideRecord) -> Pooled | None:
        sampled = sample_of(model, engines, record)
        return None if sampled is None else sampled.seen.features.mean(axis=0, dtype=np.float64)

    learnt = [(r.patient, r.label, features) for r in trained if (features := pooled(r)) is not None]
    return probe(learnt, [pooled(c.as_examined) for c in cohort.cases])


def _faithfulness(cohort: Cohort, bundle: Path | None, options: Options) -> dict[str, Any]:
    if not options.faithful:
        return faithfulness({}, 0, 0)
    if bundle is None:
        raise UsageError("--faithful lets the model look again; give the bundle that made the results as --model")
    engines = Engines(load_bundle(bundle))
    found: dict[str, list[list[Deletion]]] = {}
    unread = 0
    for record, number, heat in called(cohort, options.faithful):
        falls = deletions(engines, record.path, record.mpp, heat, number, options.seed)
        if falls is None:
            unread += 1
        else:
            found.setdefault(cohort.model.class_names[number], []).append(falls)
    return faithfulness(found, unread, options.faithful)


def _apart(trained: list[SlideRecord], cohort: Cohort, path: Path) -> list[SlideRecord]:
    """Return the slides that baselines learn from. Raises `UsageError` where a judged one is among them, or a copy."""
    files = {c.record.path.resolve() for c in cohort.cases}
    contents = {c.result.sha256 for c in cohort.cases if c.result}
    sizes = {c.record.path.stat().st_size for c in cohort.cases if c.record.path.is_file()}
    named = {told_apart(person_of(c.record)) for c in cohort.cases} - {""}
    known = [
        r.slide
        for r in trained
        if r.path.resolve() in files or told_apart(r.patient) in named or _is_copy(r.path, sizes, contents)
    ]
    if known:
        raise UsageError(
            f"{len(known)} of the slides of {path} (first {known[0]}) are judged here too, or their "
            "patients are: baselines would learn what they are asked; give the manifest of the training"
        )
    return trained


def _is_copy(path: Path, sizes: Container[int], contents: Container[str | None]) -> bool:
    """Tell whether a file has one of the contents; only one of their sizes is read for that."""
    try:
        return path.stat().st_size in sizes and sha256_of(path) in contents
    except (OSError, SlideError):
        return False


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: numpy's numbers as Python's, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if np.isfinite(value) else None
    return value
