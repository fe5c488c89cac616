"""Options that several commands share, and how they speak."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.models import OptionInfo

if TYPE_CHECKING:
    from histo.archive.local import Step


Slides = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Slides, or folders of slides.")]
OneSlide = Annotated[Path, typer.Argument(metavar="SLIDE", help="A slide.")]


def out_option(metavar: str, help_text: str) -> OptionInfo:
    """Return the option --out of a command."""
    return cast(OptionInfo, typer.Option("--out", "-o", metavar=metavar, help=help_text))


Out = Annotated[Path, out_option("FOLDER", "Folder for the results.")]
ModelPath = Annotated[Path | None, typer.Option("--model", help="Model bundle; the shipped one if not given.")]
Mpp = Annotated[float | None, typer.Option("--mpp", help="True µm per level-0 pixel; overrides the file's.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto (the fastest that agrees), torch, or onnx (CPU only).")]
Classes = Annotated[
    Path | None, typer.Option("--config", help="Training configuration with the classes; else the shipped model's.")
]
Aliases = Annotated[
    list[str] | None, typer.Option("--map", help="WORD=class: what a word in annotation files means; may be repeated.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value; overrides the configuration.")]


def say(line: str) -> None:
    """Print a line as it is."""
    from histo.console import out

    out.print(line, markup=False)


def say_step(step: "Step") -> None:
    """Print what became of one slide."""
    result = step.result
    what = result.verdict.label if result.verdict else "; ".join(r.message for r in result.reasons)
    how = "kept from before" if step.kept else f"{step.seconds:.1f} s"
    say(f"{step.number}/{step.total} {result.slide_id}: {result.status}, {what} ({how})")
