"""What `histo infer` does around a run: progress, the table of verdicts, and what else there is to know."""

from collections.abc import Callable, Sequence
from pathlib import Path

from histo.archive.examine import RunOptions
from histo.archive.local import Step, run_slides
from histo.archive.profiling import lines_of, read_profile
from histo.console import out as console
from histo.console import progress, summary, verdict_table
from histo.infer import load_model
from histo.out_folder import INDEX

MAX_TABLE_ROWS = 40  # an archive's table is slides.csv


def infer_slides(
    paths: Sequence[Path], out: Path, model_path: Path | None, options: RunOptions, on_step: Callable[[Step], None]
) -> int:
    """Examine slides into `out`, tell what became of them, and return 0, or 3 where one was refused or failed.

    Raises `HistoError`, as `run_slides` does.
    """
    model = load_model(model_path, lazy=True)
    done, total, is_profiled = 0, 0, False  # no step is kept: the outlines of an archive fill the memory

    def told(step: Step) -> None:
        nonlocal done, total, is_profiled
        done, total = done + 1, step.total
        is_profiled = is_profiled or not (step.kept or step.result.verdict is None)
        on_step(step)

    try:
        with progress("tiles") as start:
            results = run_slides(paths, out, model, options, on_step=told, on_start=start, say=_say)
    except (KeyboardInterrupt, SystemExit):
        _say(f"Stopped after {done} of {total or 'all'} slides; the same command goes on")
        raise
    if len(results) <= MAX_TABLE_ROWS:
        console.print(verdict_table(results))
    console.print(summary(results))
    if options.profile:
        _tell_profile(out, is_profiled)
    _say(f"Open {out / INDEX}")
    return 3 if any(r.status in ("refused", "failed") for r in results) else 0


def _tell_profile(out: Path, is_profiled: bool) -> None:
    if not is_profiled:
        _say("No slide was scored, so --profile measured nothing")
        return
    for line in (line for slide in read_profile(out / "profile.json") for line in lines_of(slide)):
        _say(line)


def _say(line: str) -> None:
    console.print(line, markup=False)
