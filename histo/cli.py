"""The command line: what can be typed, and the exit codes. No logic, and no heavy import before it is needed."""

import logging
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import histo
from histo.errors import HistoError

if TYPE_CHECKING:
    from histo.archive.local import Step

app = typer.Typer(
    name="histo",
    help="Calcification, bone or neither on H&E skin slides: a verdict and a heatmap. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

manifest = typer.Typer(help="The table of labelled slides: make one, check one.", no_args_is_help=True)
annotations = typer.Typer(help="Outlines of lesions: check a file before training.", no_args_is_help=True)
app.add_typer(manifest, name="manifest")
app.add_typer(annotations, name="annotations")

MAX_TABLE_ROWS = 40  # an archive's table is slides.csv

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
ModelPath = Annotated[Path | None, typer.Option("--model", help="Model bundle; the shipped one if not given.")]
Mpp = Annotated[float | None, typer.Option("--mpp", help="True µm per level-0 pixel, over what the file records.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, torch or onnx; auto takes the fastest that agrees.")]
Classes = Annotated[
    Path | None, typer.Option("--config", help="Training configuration with the classes; else the shipped model's.")
]
Aliases = Annotated[
    list[str] | None, typer.Option("--map", help="WORD=class: what a word in annotation files means; may be repeated.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value over the configuration.")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the phantoms and their results.")] = Path("demo"),
    slide: Annotated[list[Path] | None, typer.Option("--slide", help="A real slide to examine as well.")] = None,
    mpp: Mpp = None,
) -> None:
    """Make three phantom slides, examine them with the shipped model, show the verdicts."""
    from histo.demo import run_demo

    raise typer.Exit(run_demo(folder, slide or [], mpp))


@app.command()
def inspect(
    slide: Annotated[Path, typer.Argument(help="A slide.")],
    model: ModelPath = None,
    mpp: Mpp = None,
    preview: Annotated[Path | None, typer.Option("--preview", help="Write a PNG with the tissue outlined.")] = None,
) -> None:
    """Show a slide's scale, levels, tissue and tiles, and whether it would be refused and why."""
    from histo.inspection import show_inspection

    raise typer.Exit(show_inspection(slide, model, mpp, preview))


@app.command()
def infer(
    paths: Annotated[list[Path], typer.Argument(help="Slides, or folders of slides.")],
    out: Out,
    model: ModelPath = None,
    mpp: Mpp = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tiles scored at once; the engine's own if not given.")
    ] = None,
    readers: Annotated[int, typer.Option(min=1, help="Threads that read tiles.")] = 2,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each on a slide of its own and its share of cores.")
    ] = 1,
    profile: Annotated[bool, typer.Option("--profile", help="Show and save where the time goes.")] = False,
    mode: Annotated[
        str, typer.Option("--mode", help="full, or screen: the model's screen picks where the network looks.")
    ] = "full",
) -> None:
    """Examine slides: a verdict, heatmap, lesions and report each. The same command again resumes."""
    from histo.archive.examine import RunOptions
    from histo.archive.local import run_slides
    from histo.console import out as console
    from histo.console import progress, summary, verdict_table
    from histo.infer import load_model

    loaded = load_model(model, lazy=True)
    options = RunOptions(mpp, device, batch_size, readers, engine, workers, profile, mode)
    with progress("tiles") as start:
        results = run_slides(paths, out, loaded, options, on_step=_say, on_start=start)
    if len(results) <= MAX_TABLE_ROWS:
        console.print(verdict_table(results))
    console.print(summary(results))
    if profile:
        from histo.archive.profiling import lines_of, read_profile

        for line in (line for slide in read_profile(out / "profile.json") for line in lines_of(slide)):
            console.print(line, markup=False)
    console.print(f"Open {out / 'index.html'}", markup=False)
    if any(r.status in ("refused", "failed") for r in results):
        raise typer.Exit(3)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A training configuration, such as configs/phantom.yaml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for runs.")] = Path("runs"),
    overrides: Overrides = None,
    device: Device = "auto",
    only_try: Annotated[
        bool, typer.Option("--dry-run", help="Read one batch, draw it, estimate time and memory; train nothing.")
    ] = False,
) -> None:
    """Train a model on labelled slides and write its bundle to RUNS/<name>/bundle/."""
    from histo.config import load_config
    from histo.console import out as console
    from histo.train import dry_run
    from histo.train import train as run

    def say(line: str) -> None:
        console.print(line, markup=False)

    settings = load_config(config, overrides or [])
    if only_try:
        dry_run(settings, out, device=device, say=say)
        return
    bundle = run(settings, out, device=device, say=say)
    say(f"The model is in {bundle}; use it with: histo infer SLIDE --model {bundle} --out OUT")


@app.command()
def screen(
    bundle: Annotated[Path, typer.Argument(help="A model bundle.")],
    manifest: Annotated[Path, typer.Argument(help="Labelled slides, such as those that the model was trained on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundle with its screen.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of training; 1200 if not given.")] = None,
) -> None:
    """Give a model a screen for `histo infer --mode screen`, and say what it misses on validation slides."""
    from histo.console import out as console
    from histo.learning.screen_bundle import screen_bundle

    screen_bundle(bundle, manifest, out, steps, lambda line: console.print(line, markup=False))
    console.print(f"The model is in {out}; use it with: histo infer SLIDE --model {out} --mode screen", markup=False)


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The model to calibrate.")],
    slides: Annotated[Path, typer.Argument(help="A manifest of labelled slides that it was not trained on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the calibrated model.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="Folder of an earlier infer --out; OUT_results if not given.")
    ] = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes, each on a slide of its own.")] = 1,
    other_persons: Annotated[
        bool, typer.Option("--other-persons", help="Patients named as in training are other persons.")
    ] = False,
) -> None:
    """Make a model's slide probabilities mean what they say, on slides kept aside; write a new bundle."""
    from histo.archive.examine import RunOptions
    from histo.calibrate import CalibrateOptions
    from histo.calibrate import calibrate as run
    from histo.console import out as console
    from histo.console import progress

    def say(line: str) -> None:
        console.print(line, markup=False)

    options = CalibrateOptions(results, RunOptions(device=device, engine=engine, workers=workers), other_persons)
    with progress("tiles") as start:
        run(bundle, slides, out, options, say, _say, start)
    say(f"The calibrated model is in {out}; use it with: histo infer SLIDE --model {out} --out OUT")


@app.command()
def evaluate(
    out: Annotated[Path, typer.Argument(help="The --out folder of histo infer.")],
    file: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The slides with labels, patients and outlines.")],
    report: Annotated[Path | None, typer.Option("--report", help="Folder for the report; OUT/evaluation.")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="The bundle that made the results.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Judge these slides; those marked test, or all, if not given.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another run's OUT, to compare on each slide.")
    ] = None,
    learnt: Annotated[Path | None, typer.Option("--train", help="Manifest from which simple baselines learn.")] = None,
    aliases: Aliases = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    note: Annotated[
        str | None, typer.Option("--note", help="Write the headline figures into --model's card under this name.")
    ] = None,
) -> None:
    """Judge the results of histo infer by a manifest: a reviewer's report in HTML, JSON and three checklists."""
    from histo.console import out as console
    from histo.console import progress
    from histo.evaluate import Options, evaluate, headline
    from histo.labelling import read_aliases

    chosen = Options(model, split, against, learnt, read_aliases(aliases or []), seed, note=note)
    with progress("slides") as start:
        found = evaluate(out, file, report, chosen, start("comparing with the truth"))
    for line in headline(found):
        console.print(line, markup=False)
    console.print(f"Open {(report or out / 'evaluation') / 'report.html'}", markup=False)


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder for the slides and their truth; a cohort's gets slides.csv.")],
    slides: Annotated[
        int | None, typer.Option(min=1, help="How many slides; 12, or one where --kind is given.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="normal, calcium, bone, mixed, confounder or confounder:NAME.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A whole cohort in YAML, such as configs/cohort.yaml.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same slides; 0 if not given.")] = None,
    domain: Annotated[str | None, typer.Option(help="train, shift or extreme: disjoint stains and scanners.")] = None,
    size: Annotated[str | None, typer.Option(help="Pixels: 4000, or 4000x3000 for width x height.")] = None,
    mpp: Annotated[float | None, typer.Option(help="µm per pixel; 0.5 if not given.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="NUMBER=value, set instead of drawn.")] = None,
    no_lesions: Annotated[bool, typer.Option("--no-lesions", help="The same slide without its lesions.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
) -> None:
    """Make phantom slides with exact truth: one, many, or a cohort from YAML; the same command again resumes."""
    from histo.console import out as console
    from histo.console import progress
    from histo.phantom.command import Options, make_phantoms

    def say(line: str) -> None:
        console.print(line, markup=False)

    wanted = Options(slides, kind, seed, domain, size, mpp, tuple(settings or ()), no_lesions)
    with progress("slides") as start:
        bar = start("making phantoms")
        ending = make_phantoms(folder, wanted, spec, workers, bar, None if console.is_terminal else say)
    say(ending)


@app.command()
def stress(
    out: Out,
    bundle: Annotated[Path | None, typer.Argument(help="Model bundle; the shipped one if not given.")] = None,
    slides: Annotated[
        int | None, typer.Option(min=1, help="Slides a test; as the reference has it if not given.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the phantoms in pixels; 2000 if not given.")] = None,
    needle_size: Annotated[int | None, typer.Option(help="Side of the needle test's slides; as --size.")] = None,
    tests: Annotated[
        str | None, typer.Option(help="Numbers, ranges, names or groups: 1,2,14-26,needle,learning.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same slides.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
    device: Device = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: 4 slides of 1400 px a test.")] = False,
    learning: Annotated[
        bool, typer.Option("--learning", help="Also do the trainings of tests 33 to 38: hours.")
    ] = False,
) -> None:
    """Run the forty stress and shortcut tests over a model; the same command again resumes."""
    from histo.console import out as console
    from histo.console import progress
    from histo.stress.command import Options, run_stress

    def say(line: str) -> None:
        console.print(line, markup=False)

    wanted = Options(slides, size, needle_size, tests, seed, workers, device, quick, learning)
    with progress("slides") as start:
        run_stress(bundle, out, wanted, start("stress"), say)


@manifest.command("check")
def manifest_check(
    file: Annotated[Path, typer.Argument(help="A manifest, such as slides.csv.")],
    config: Classes = None,
    aliases: Aliases = None,
) -> None:
    """Open every slide and annotation of a manifest and report every problem at once."""
    from histo.labelling import meaning_of, show_manifest

    raise typer.Exit(show_manifest(file, meaning_of(config, aliases or [])))


@manifest.command("make")
def manifest_make(
    folder: Annotated[Path, typer.Argument(help="A folder of slides.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write.")] = Path("slides.csv"),
    config: Classes = None,
) -> None:
    """List the slides of a folder in a manifest, and say what must be filled in."""
    from histo.labelling import make_manifest, meaning_of

    raise typer.Exit(make_manifest(folder, out, meaning_of(config, []).classes.labels))


@manifest.command("split")
def manifest_split(
    file: Annotated[Path, typer.Argument(help="A manifest, such as slides.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write, with its split column filled.")],
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients to validate on.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients to test on, once.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    config: Classes = None,
) -> None:
    """Deal patients to training, validation and test, by label and site."""
    from histo.labelling import meaning_of, split_manifest

    raise typer.Exit(split_manifest(file, out, (validation, test), seed, meaning_of(config, []).classes.labels))


@annotations.command("check")
def annotations_check(
    file: Annotated[Path, typer.Argument(help="QuPath GeoJSON, ASAP or Aperio XML, NDPA, DSA JSON or a mask.")],
    slide: Annotated[Path, typer.Option("--slide", help="The slide that it belongs to.")],
    mpp: Mpp = None,
    config: Classes = None,
    aliases: Aliases = None,
) -> None:
    """Check outlines against their slide: classes, rings, overlaps, tissue, slivers."""
    from histo.labelling import meaning_of, show_annotations

    raise typer.Exit(show_annotations(file, slide, mpp, meaning_of(config, aliases or [])))


@app.command()
def doctor() -> None:
    """Show versions, devices, the reader and the shipped model, and what is missing."""
    from histo.doctor import examine

    raise typer.Exit(examine())


def _say(step: "Step") -> None:
    from histo.console import out as console

    result = step.result
    what = result.verdict.label if result.verdict else "; ".join(r.message for r in result.reasons)
    how = "kept from before" if step.kept else f"{step.seconds:.1f} s"
    console.print(f"{step.number}/{step.total} {result.slide_id}: {result.status}, {what} ({how})", markup=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"histo {histo.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(levelname)s %(message)s")


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code; expected errors are one sentence."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app(arguments)
    except HistoError as error:
        if logging.getLogger().isEnabledFor(logging.INFO):
            traceback.print_exc()
        typer.echo(f"histo: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
