"""What `histo stress` makes of its options."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from histo.console import out
from histo.errors import ArchiveError, UsageError
from histo.infer import digest_of, load_model, settings_of
from histo.models.bundle import note_figures
from histo.models.engine import device_kind, usable_cores
from histo.phantom.slide import SMALLEST_PX
from histo.stress.catalogue import CATALOGUE, select
from histo.stress.report import noted, read_judged, summary, table, write_all
from histo.stress.run import Judged, judge_all, lay_out, score
from histo.stress.seen import Store
from histo.stress.trial import BONE, CALCIUM, NORMAL, Kit
from histo.timing import Progress, Say

SIZE_PX: Final = 2000
QUICK_SLIDES, QUICK_SIZE_PX = 4, 1400


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was typed; None where it was not."""

    slides: int | None = None
    size_px: int | None = None
    needle_size_px: int | None = None
    tests: str | None = None
    seed: int = 0
    workers: int | None = None
    device: str = "auto"
    quick: bool = False
    learning: bool = False
    note: str | None = None


def kit_of(bundle: Path | None, folder: Path, options: Options) -> Kit:
    """Return what the tests are laid out with. Raises `UsageError` for a size or a model that they cannot use."""
    model = load_model(bundle)
    size = options.size_px or (QUICK_SIZE_PX if options.quick else SIZE_PX)
    needle = options.needle_size_px or size
    if min(size, needle) < SMALLEST_PX:
        raise UsageError(f"slides of {min(size, needle)} px are too small for phantoms; use at least {SMALLEST_PX} px")
    labels = model.card.classes.labels
    if set(labels) != {NORMAL, CALCIUM, BONE}:
        raise UsageError(
            f"the model {model.card.name} gives the verdicts {', '.join(labels)}; the stress tests know the truth of "
            f"{NORMAL}, {CALCIUM} and {BONE} only"
        )
    settings = digest_of(settings_of(None, device_kind(options.device)))
    store = Store(folder / "scores" / f"{model.digest[:16]}-{settings[:8]}")
    slides = options.slides or (QUICK_SLIDES if options.quick else None)
    return Kit(
        model, slides, size, needle, options.seed, options.device, store, folder / "phantoms", folder, options.learning
    )


def run_stress(bundle: Path | None, folder: Path, options: Options, advance: Progress, say: Say) -> None:
    """Run the tests that are asked for, write the report and print the table.

    Raises `UsageError` for what cannot be tested, `ArchiveError` where the folder or the machine stops it.
    """
    trials = select(options.tests)
    if options.note and bundle is None:
        raise UsageError("--note writes into the card of a bundle; give its folder")
    kit = kit_of(bundle, folder, options)
    cores = usable_cores()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        laid = lay_out(kit, trials)
        # On a GPU a second process would only take of its memory.
        workers = options.workers or (1 if device_kind(options.device) == "cuda" else cores)
        score(kit, laid, workers, cores, advance, say)
        judged = judge_all(kit, trials, laid, say)
        # Tests of earlier calls with the same model and slides stay in the table.
        earlier = [j for j in read_judged(kit) if j.trial.number not in laid]
        laid |= lay_out(kit, [j.trial for j in earlier])
        judged = sorted([*judged, *earlier], key=lambda j: j.trial.number)
        write_all(kit, judged, laid, _typed(bundle, folder, options, judged))
    except OSError as error:
        raise ArchiveError(
            f"the stress tests cannot be written to {folder} ({error.strerror}); make room or give another folder"
        ) from error
    if options.note and bundle:
        note_figures(bundle, options.note, noted(kit, judged))
        say(f"the table stands in the card of {bundle} too, under {options.note}")
    out.print(table(judged))
    out.print(summary(judged), markup=False)
    out.print(f"Open {folder / 'stress.html'}", markup=False)


def _typed(bundle: Path | None, folder: Path, options: Options, judged: Sequence[Judged]) -> str:
    """Return the command line that does all of the table at once."""
    numbers = [j.trial.number for j in judged]
    words = ["histo", "stress", *([str(bundle)] if bundle else []), "--out", str(folder), "--seed", str(options.seed)]
    given = {
        "--slides": options.slides,
        "--size": options.size_px,
        "--needle-size": options.needle_size_px,
        "--device": None if options.device == "auto" else options.device,
        "--tests": None if len(numbers) == len(CATALOGUE) else ",".join(map(str, numbers)),
    }
    words += [text for flag, value in given.items() if value is not None for text in (flag, str(value))]
    words += ["--quick"] * options.quick + ["--learning"] * options.learning
    return shlex.join(words)
