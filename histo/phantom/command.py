"""What `histo phantom` makes of its options: one slide, a cohort of shares, or a cohort from a YAML file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from histo.config import parse_yaml
from histo.errors import ArchiveError, UsageError
from histo.phantom.cohort import make_from_spec, plan_cohort
from histo.phantom.slide import files_of, is_made, made_otherwise, make_slide, parameters
from histo.phantom.spec import CohortSpec, load_spec, spec_from
from histo.timing import Progress, Say

_DEFAULT_SLIDES = 12


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was typed; None and empty where it was not."""

    slides: int | None = None
    kind: str | None = None
    seed: int | None = None
    domain: str | None = None
    size: str | None = None
    mpp: float | None = None
    set: tuple[str, ...] = ()
    no_lesions: bool = False


_UNTYPED = asdict(Options())


def make_phantoms(
    folder: Path,
    options: Options,
    spec: Path | None,
    workers: int | None,
    progress: Progress,
    say: Say | None,
) -> str:
    """Make what is asked for and return the line to end with; `say` is told each step where no bar is shown.

    Raises UsageError for what cannot be made, ArchiveError where the folder or the machine stops it.
    """
    cohort = _cohort(options, spec)

    def tell(done: int, total: int) -> None:
        progress(done, total)
        if say:
            say(f"{done}/{total} slides")

    try:
        if spec is None and options.kind and options.slides is None:
            return _make_one(folder, cohort)
        manifest = make_from_spec(folder, cohort, workers, tell)
    except OSError as error:
        raise ArchiveError(
            f"the slides cannot be written to {folder} ({error.strerror}); make room or give another folder"
        ) from error
    return f"{len(plan_cohort(cohort))} slides and their truth are in {folder}; the manifest is {manifest}"


def _cohort(options: Options, spec: Path | None) -> CohortSpec:
    if spec is None:
        return spec_of(options)
    # Compared with the defaults by name: a seed of 0 was typed, too.
    typed = [f"--{name.replace('_', '-')}" for name, value in asdict(options).items() if value != _UNTYPED[name]]
    if typed:
        raise UsageError(f"{spec} says all about the cohort; leave {', '.join(typed)} away, or write it there")
    return load_spec(spec)


def spec_of(options: Options) -> CohortSpec:
    """Return the specification of a cohort, or of one slide, that needs no file."""
    group: dict[str, Any] = {
        "slides": options.slides or (1 if options.kind else _DEFAULT_SLIDES),
        "kinds": options.kind,
        "domain": options.domain,
        "size_px": options.size,
        "mpp": options.mpp,
    }
    group = {k: v for k, v in group.items() if v is not None}
    group |= {"lesions": not options.no_lesions, "overrides": read_settings(options.set)}
    return spec_from({"seed": options.seed or 0, "groups": [group]}, "phantom slides", "groups.0")


def read_settings(lines: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` lines; values are YAML. Raises UsageError for a line without name or equals sign."""
    settings = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {line!r} must look like calcium.form=granular")
        try:
            settings[name.strip()] = parse_yaml(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UsageError(f"--set {line!r} holds no YAML value: {' '.join(str(error).split())}") from error
    return settings


def _make_one(folder: Path, cohort: CohortSpec) -> str:
    """Make the slide whose own seed is the cohort's, unless it is there."""
    (group,) = cohort.groups
    (kind,) = group.kinds
    asked = parameters(
        kind=kind,
        seed=cohort.seed,
        size_px=plan_cohort(cohort)[0].asked["size_px"],
        mpp=group.mpp,
        domain=group.domain,
        patient_seed=None,
        lesions=group.lesions,
        overrides=group.overrides,
    )
    twin = "" if group.lesions else "_twin"
    name = f"{asked['kind'].replace(':', '_')}_{cohort.seed}{twin}"
    if is_made(folder, name, asked):
        return f"{files_of(folder, name, asked['kind']).slide} was made before with the same parameters"
    if other := made_otherwise(folder, name, asked):
        raise UsageError(
            f"{folder} holds another slide {name}, which differs in {', '.join(other)}; give each variant a folder of "
            "its own"
        )
    files = make_slide(folder, name, **{k: v for k, v in asked.items() if k != "format"})
    return f"{files.slide} and its truth are made; its label is {files.label}"
