"""Commands that make and judge models: train, screen, reference, calibrate, evaluate, stress."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from histo.cli_options import Aliases, Device, EngineName, Out, Overrides, out_option, say, say_step

OtherPersons = Annotated[
    bool, typer.Option("--other-persons", help="Patient codes known from training mean others here.")
]


def train(
    config: Annotated[Path, typer.Argument(help="A training configuration, such as configs/phantom.yaml.")],
    out: Annotated[Path, out_option("FOLDER", "Folder for runs.")] = Path("runs"),
    overrides: Overrides = None,
    device: Device = "auto",
    only_try: Annotated[
        bool, typer.Option("--dry-run", help="Read one batch, draw it, estimate time and memory; train nothing.")
    ] = False,
) -> None:
    """Train a model on labelled slides and write its bundle to RUNS/<name>/bundle/."""
    from histo.config import load_config
    from histo.train import dry_run
    from histo.train import train as run

    settings = load_config(config, overrides or [])
    if only_try:
        dry_run(settings, out, device=device, say=say)
        return
    try:
        bundle = run(settings, out, device=device, say=say)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from the last finished epoch, if one was")
        raise
    say(f"The model is in {bundle}; use it with: histo infer SLIDE --model {bundle} --out OUT")


def screen(
    bundle: Annotated[Path, typer.Argument(help="A model bundle.")],
    manifest: Annotated[Path, typer.Argument(help="Labelled slides, such as those that the model was trained on.")],
    out: Annotated[Path, out_option("FOLDER", "Folder for the bundle with its screen.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of training; those of the card if not given.")] = None,
) -> None:
    """Give a model a screen for `histo infer --mode screen`, and say what it misses on validation slides."""
    from histo.learning.screen_bundle import screen_bundle

    screen_bundle(bundle, manifest, out, steps, lambda line: say(line))
    say(f"The model is in {out}; use it with: histo infer SLIDE --model {out} --out OUT --mode screen")


def reference(
    bundle: Annotated[Path, typer.Argument(help="A model bundle.")],
    manifest: Annotated[Path, typer.Argument(help="Slides of the kind that the model is used on, 50 or more.")],
    out: Annotated[Path, out_option("FOLDER", "Folder for the bundle with its new reference.")],
    device: Device = "auto",
    other_persons: OtherPersons = False,
) -> None:
    """Refit a model's reference of foreign tissue on your own slides; write a new bundle."""
    from histo.reference import refit

    refit(bundle, manifest, out, device, other_persons, say)
    say(f"The model is in {out}; use it with: histo infer SLIDE --model {out} --out OUT")


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The model to calibrate.")],
    manifest: Annotated[Path, typer.Argument(help="Labelled slides that it was not trained on.")],
    out: Annotated[Path, out_option("FOLDER", "Folder for the calibrated model.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="Folder of an earlier infer --out; OUT_results if not given.")
    ] = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes, each on a slide of its own.")] = 1,
    other_persons: OtherPersons = False,
) -> None:
    """Make a model's slide probabilities mean what they say, on slides kept aside; write a new bundle."""
    from histo.archive.examine import RunOptions
    from histo.calibrate import CalibrateOptions
    from histo.calibrate import calibrate as run
    from histo.console import progress

    options = CalibrateOptions(results, RunOptions(device=device, engine=engine, workers=workers), other_persons)
    with progress("tiles") as start:
        run(bundle, manifest, out, options, say, say_step, start)
    say(f"The calibrated model is in {out}; use it with: histo infer SLIDE --model {out} --out OUT")


Smaller = Annotated[
    list[Path] | None,
    typer.Option(
        "--smaller", help="Report of a model that learnt from fewer slides, for the learning curve; again for more."
    ),
]
Familiar = Annotated[
    Path | None,
    typer.Option("--familiar", help="This model's report on slides like those it learnt from: what changes here."),
]
Faithful = Annotated[
    int,
    typer.Option("--faithful", min=0, help="Score this many slides again with the heatmap's strongest parts hidden."),
]


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
    smaller: Smaller = None,
    familiar: Familiar = None,
    faithful: Faithful = 0,
    aliases: Aliases = None,
    unannotated: Annotated[
        Literal["normal", "ignore"] | None,
        typer.Option(
            "--unannotated", help="What was not outlined on slides with lesions; as in training if not given."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    note: Annotated[
        str | None, typer.Option("--note", help="Write the headline figures into --model's card under this name.")
    ] = None,
) -> None:
    """Judge the results of histo infer by a manifest: a reviewer's report in HTML, JSON and three checklists."""
    from histo.console import progress
    from histo.evaluate import Options, evaluate, headline
    from histo.labelling import read_aliases
    from histo.out_folder import EVALUATION

    chosen = Options(
        model=model,
        split=split,
        against=against,
        train=learnt,
        smaller=smaller or (),
        familiar=familiar,
        faithful=faithful,
        aliases=read_aliases(aliases or []),
        unannotated=unannotated,
        seed=seed,
        note=note,
    )
    with progress("slides") as start:
        found = evaluate(out, file, report, chosen, start("comparing with the truth"))
    for line in headline(found):
        say(line)
    say(f"Open {(report or out / EVALUATION) / 'report.html'}")


def stress(
    out: Out,
    bundle: Annotated[Path | None, typer.Argument(help="Model bundle; the shipped one if not given.")] = None,
    slides: Annotated[
        int | None, typer.Option(min=1, help="Slides a test; 60 or 30, as the test asks, if not given.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the phantoms in pixels; 2000 (--quick: 1400) if not given.")
    ] = None,
    needle_size: Annotated[int | None, typer.Option(help="Side of the needle test's slides; as --size.")] = None,
    tests: Annotated[
        str | None, typer.Option(help="Numbers, ranges, names or groups: 1,2,14-26,needle,learning.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same slides.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
    device: Device = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: 4 slides of 1400 px a test.")] = False,
    learning: Annotated[
        bool, typer.Option("--learning", help="Also do the trainings of tests 33, 34, 36 and 38: hours.")
    ] = False,
    note: Annotated[str | None, typer.Option(help="Write the table into the card of BUNDLE under this name.")] = None,
) -> None:
    """Run the forty stress and shortcut tests over a model; the same command again resumes."""
    from histo.console import progress
    from histo.stress.command import Options, run_stress

    wanted = Options(
        slides=slides,
        size_px=size,
        needle_size_px=needle_size,
        tests=tests,
        seed=seed,
        workers=workers,
        device=device,
        quick=quick,
        learning=learning,
        note=note,
    )
    with progress("slides") as start:
        run_stress(bundle, out, wanted, start("stress"), say)


COMMANDS = (train, screen, reference, calibrate, evaluate, stress)
