"""Slides of a manifest beside what `histo infer` said of them; nobody is dropped, whatever the status."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.data.findings import Finding
from histo.data.manifest import inspect_manifest
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.errors import SlideError, UsageError
from histo.out_folder import RESULT, RESULTS, model_of_last_run, results_in
from histo.results import ModelInfo, SlideResult, Verdict, load_result

MISSING = "missing"
STATUSES = ("done", "review", "refused", "failed", MISSING)
NO_VERDICT = "no verdict"
READER = "reader"  # so begin columns with the diagnoses of others, which are no traits of a slide
_NO_PATIENT = "no patient"
DOUBTS = ("column", "spelling", "two_values")  # kinds of findings, of which errors have ended the call


@dataclass(frozen=True, eq=False)
class Case:
    """One slide: its row of the manifest and its result; None where `histo infer` never examined it."""

    record: SlideRecord
    result: SlideResult | None
    folder: Path | None = None

    def file(self, kind: str) -> Path | None:
        """Return where a file of the result lies; None where it has none of that kind, or no longer."""
        name = self.result.files.get(kind) if self.result and self.folder else None
        path = self.folder / name if self.folder and name else None
        return path if path and path.is_file() else None

    @property
    def status(self) -> str:
        """The result's status, or `missing`."""
        return self.result.status if self.result else MISSING

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, in review or not; None without one."""
        return self.result.verdict if self.result else None

    @property
    def called(self) -> str:
        """The label of the verdict, or `no verdict`."""
        return self.verdict.label if self.verdict else NO_VERDICT

    @property
    def right(self) -> bool:
        """Whether the verdict is the label; a slide without verdict is never right."""
        return self.called == self.record.label

    @property
    def as_examined(self) -> SlideRecord:
        """The row with the scale at which the slide was examined, where the user gave that and not the file."""
        pyramid = self.result.pyramid if self.result else None
        if pyramid is None or pyramid.scale_source != "user":
            return self.record
        return replace(self.record, mpp=pyramid.mpp_x)

    @property
    def sure(self) -> float:
        """The probability of the verdict's label; 0 without a verdict."""
        return float(self.verdict.probability.get(self.verdict.label, 0.0)) if self.verdict else 0.0


@dataclass(frozen=True, eq=False)
class Cohort:
    """All cases of an evaluation with the model that judged them, and what was set aside before.

    `set_aside` counts the manifest's slides of other splits; `foreign` results that no slide of the manifest claims;
    `doubts` are what the manifest's check warns of and every figure rests on: columns that look like histo's under
    another name, names that may be one patient or two.
    """

    cases: tuple[Case, ...]
    model: ModelInfo
    manifest: Path
    out: Path
    set_aside: Mapping[str, int]
    foreign: int
    doubts: tuple[Finding, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that the model can give, the normal one first."""
        return self.model.labels

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """The label of every slide (N,), as a number in `labels`."""
        return np.array([self.labels.index(c.record.label) for c in self.cases], np.int64)

    @cached_property
    def called(self) -> NDArray[np.int64]:
        """The verdict of every slide (N,), as a number in `labels`; their count where there is none."""
        return np.array([[*self.labels, NO_VERDICT].index(c.called) for c in self.cases], np.int64)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each slide's verdict (N,) is its label; never without a verdict."""
        return np.asarray(self.called == self.truth, bool)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """Whether each slide (N,) has a verdict, in review or not."""
        return np.asarray(self.called < len(self.labels), bool)

    def has_status(self, status: str) -> NDArray[np.bool_]:
        """Tell of each slide (N,) whether its result has this status."""
        return np.array([c.status == status for c in self.cases], bool)

    @cached_property
    def patients(self) -> list[str | None]:
        """The patient of every slide; None where the manifest names none."""
        return [c.record.patient or None for c in self.cases]

    def look_alike(self, case: Case) -> str:
        """Return what a normal slide resembles, by the manifest's column `kind`; empty where that names a diagnosis.

        A phantom without the lesion of its twin has the kind of that, and is plain skin.
        """
        record = case.record
        kind = record.extra.get("kind", "")
        is_plain = record.label != self.labels[0] or record.extra.get("twin_of") or kind.casefold() in self.labels
        return "" if is_plain else kind

    def where(self, wanted: NDArray[np.bool_]) -> list[Case]:
        """Return the cases at which a mask (N,) is true."""
        return [c for c, w in zip(self.cases, wanted.tolist(), strict=True) if w]


def read_cohort(out: Path, manifest: Path, split: str | None = None) -> Cohort:
    """Match the results in `out` with the slides of a manifest.

    Only slides of `split` are judged; without one those marked `test`, or all where no slide is. Raises `UsageError`
    for a manifest with problems (a missing patient is none here: it becomes a banner), a folder without results,
    results of several models, or when no slide of the manifest was examined.
    """
    results = _results(out)
    model = results[0][1].model
    records, doubts = _records(manifest, model.labels)
    marked = {r.split for r in records}
    wanted = split or ("test" if "test" in marked else None)
    kept = [r for r in records if wanted is None or r.split == wanted]
    if not kept:
        raise UsageError(f"manifest {manifest} has no slide of split {wanted}; leave --split away or name another")
    aside = Counter(r.split or "no split" for r in records if wanted is not None and r.split != wanted)
    matched = _match(kept, results)
    if not any(c.result for c in matched):
        raise UsageError(f"{out} holds no result of a slide of {manifest}; run histo infer on these slides first")
    # Slides of the other splits were examined for other ends, and are no strangers.
    others = sum(c.result is not None for c in _match([r for r in records if r not in kept], results))
    foreign = len(results) - sum(c.result is not None for c in matched) - others
    return Cohort(tuple(matched), model, manifest, out, dict(aside), max(0, foreign), doubts)


def verdicts_in(out: Path, records: Sequence[SlideRecord]) -> tuple[ModelInfo, list[str]]:
    """Return the model of another run and its verdict on each of the slides, `NO_VERDICT` where it has none.

    The model may know other labels. Raises `UsageError` for a folder without results, results of several models, or
    when none of the slides was examined.
    """
    results = _results(out)
    cases = _match(records, results)
    if not any(c.result for c in cases):
        raise UsageError(f"{out} holds no result of the slides that are judged; run histo infer on these slides first")
    return results[0][1].model, [c.called for c in cases]


def _records(manifest: Path, labels: Sequence[str]) -> tuple[list[SlideRecord], tuple[Finding, ...]]:
    rows, findings = inspect_manifest(manifest, labels)
    problems = [str(f) for f in findings if f.severity == "error" and f.message != _NO_PATIENT]
    if problems:
        raise UsageError(f"manifest {manifest} has {len(problems)} problem(s): " + "; ".join(problems))
    return [record for _, record in rows], tuple(f for f in findings if f.kind in DOUBTS)


def _results(out: Path) -> list[tuple[Path, SlideResult]]:
    """Read the results of one model: of the last call's, where `run.json` names it."""
    files = results_in(out)
    if not files:
        raise UsageError(f"{out} holds no results ({RESULTS}/*/{RESULT}); give the --out folder of histo infer")
    results = [(f.parent, load_result(f)) for f in files]
    digests = {r.model.digest for _, r in results}
    if len(digests) > 1:
        wanted = model_of_last_run(out)
        if wanted not in digests:
            raise UsageError(f"{out} holds results of {len(digests)} models; give each model a folder of its own")
        results = [(folder, r) for folder, r in results if r.model.digest == wanted]
    return results


def _match(records: Sequence[SlideRecord], results: Sequence[tuple[Path, SlideResult]]) -> list[Case]:
    """Give every slide its result: by path, else by the slide's name, else by the file's name where that is unique.

    Names are shared by chance, and by all cohorts of phantoms: what is matched by name must be the same file. Raises
    `UsageError` for a slide at the path of a result that became another file since; times would not tell that, copies
    of either have new ones.
    """
    by_path = {str(Path(r.path).resolve()): (f, r) for f, r in results}
    by_id = {r.slide_id: (f, r) for f, r in results}
    names = Counter(Path(r.path).name for _, r in results)
    by_name = {Path(r.path).name: (f, r) for f, r in results if names[Path(r.path).name] == 1}
    matched = []
    for record in records:
        found = by_path.get(str(record.path.resolve()))
        if found and not _same_file(record.path, found[1]):
            raise UsageError(
                f"{record.path} is another file than the one that {found[0].name} in the results was made of; "
                "run histo infer on it again"
            )
        if found is None:
            named = by_id.get(record.slide) or by_name.get(record.path.name)
            found = named if named and _same_file(record.path, named[1]) else None
        matched.append(Case(record, found[1], found[0]) if found else Case(record, None))
    return matched


def _same_file(path: Path, result: SlideResult) -> bool:
    """Tell whether a result was made of this file; where one of the two cannot be hashed, the name must do."""
    try:
        return result.sha256 is None or sha256_of(path) == result.sha256
    except SlideError:
        return True
