"""Commands about labelled slides: `histo manifest` and `histo annotations`."""

from pathlib import Path
from typing import Annotated

import typer

from histo.cli_options import Aliases, Classes, Mpp, out_option

manifest = typer.Typer(help="The table of labelled slides: make one, check one.", no_args_is_help=True)
annotations = typer.Typer(help="Outlines of lesions: check a file before training.", no_args_is_help=True)


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
    out: Annotated[Path, out_option("FILE", "The manifest to write.")] = Path("slides.csv"),
    config: Classes = None,
) -> None:
    """List the slides of a folder in a manifest, and say what must be filled in."""
    from histo.labelling import make_manifest, meaning_of

    raise typer.Exit(make_manifest(folder, out, meaning_of(config, []).classes.labels))


@manifest.command("split")
def manifest_split(
    file: Annotated[Path, typer.Argument(help="A manifest, such as slides.csv.")],
    out: Annotated[Path, out_option("FILE", "The manifest to write, with its split column filled.")],
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients to validate on.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients to test on, once.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same split.")] = 0,
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
