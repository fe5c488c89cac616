"""The command line: what can be typed, and the exit codes. No logic, and no heavy import before it is needed."""

import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

import histo
from histo import cli_labels, cli_models
from histo.cli_options import Device, EngineName, ModelPath, Mpp, OneSlide, Out, Slides, say, say_step
from histo.errors import ArchiveError, HistoError, UsageError, is_out_of_memory
from histo.processes import share_one_heap
from histo.streams import settle_streams

app = typer.Typer(
    name="histo",
    help="Calcification, bone or neither on H&E skin slides: a verdict and a heatmap. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_labels.manifest, name="manifest")
app.add_typer(cli_labels.annotations, name="annotations")


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
    slide: OneSlide,
    model: ModelPath = None,
    mpp: Mpp = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Write a picture, .png or .jpg, with the tissue outlined.")
    ] = None,
) -> None:
    """Show a slide's scale, levels, tissue and tiles, and whether it would be refused and why."""
    from histo.inspection import show_inspection

    raise typer.Exit(show_inspection(slide, model, mpp, preview))


@app.command()
def infer(
    paths: Slides,
    out: Out,
    model: ModelPath = None,
    mpp: Mpp = None,
    mpp_if_missing: Annotated[
        float | None, typer.Option(help="µm per level-0 pixel of the slides that record none.")
    ] = None,
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
    from histo.archive.command import infer_slides
    from histo.archive.examine import RunOptions

    options = RunOptions(
        mpp=mpp,
        mpp_if_missing=mpp_if_missing,
        device=device,
        engine=engine,
        batch_size=batch_size,
        readers=readers,
        workers=workers,
        profile=profile,
        mode=mode,
    )
    raise typer.Exit(infer_slides(paths, out, model, options, say_step))


for command in cli_models.COMMANDS:
    app.command()(command)


@app.command()
def phantom(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for slides and their truth; a cohort's gets slides.csv.")
    ],
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

    wanted = Options(
        slides=slides,
        kind=kind,
        seed=seed,
        domain=domain,
        size=size,
        mpp=mpp,
        set=tuple(settings or ()),
        no_lesions=no_lesions,
    )
    with progress("slides") as start:
        bar = start("making phantoms")
        ending = make_phantoms(folder, wanted, spec, workers, bar, None if console.is_terminal else say)
    say(ending)


@app.command()
def doctor() -> None:
    """Show versions, devices, the reader and the shipped model, and what is missing."""
    from histo.doctor import examine

    raise typer.Exit(examine())


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


def _raise_again(told: "sys.UnraisableHookArgs") -> None:
    """Repeat a stop that was raised where Python drops exceptions, as in the callback of a weak reference."""
    stops = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}
    number = next((number for stop, number in stops.items() if issubclass(told.exc_type, stop)), None)
    if number is None:
        sys.__unraisablehook__(told)
    else:  # a little later: raised in here it would be dropped, too
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code; expected errors are one sentence."""
    share_one_heap()
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _raise_again
    settle_streams()
    try:
        _refuse_empty(sys.argv[1:] if arguments is None else arguments)
        app(arguments)
    except HistoError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # no file and no full disk: a fault of ours
        where = error.filename or "the disk"
        _end(f"{where} cannot be read or written ({error.strerror}); mend that and run again", ArchiveError.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0]
        _end(f"out of memory ({said}); use fewer --workers, smaller batches or --device cpu", ArchiveError.exit_code)
    sys.exit(0)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise `UsageError` for an argument without text: an empty path would be the working folder."""
    for argument in arguments:
        if not argument or re.fullmatch(r"--[-\w]+=", argument):
            raise UsageError(f"{argument or 'an argument'} is empty; is a variable of the shell not set?")


def _end(message: str, exit_code: int) -> NoReturn:
    """Say one sentence and end; with --debug where it came from, too."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        traceback.print_exc()
    typer.echo(f"histo: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
