"""What the commands print: progress, tables and errors; bars on a terminal, plain lines when piped."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from histo.results import SlideResult
from histo.timing import Progress
from histo.wording import counted, probability_words

STYLES = {"done": "green", "review": "yellow", "refused": "magenta", "failed": "red"}

# Piped output is read by programs or in logs: no line is ever cut or wrapped there. A path may hold `:smile:`.
_IS_READ = sys.stdout.isatty()
out = Console(highlight=False, emoji=False, soft_wrap=not _IS_READ, width=None if _IS_READ else 400)


@contextmanager
def progress(unit: str) -> Iterator[Callable[[str], Progress]]:
    """Yield a function that starts a bar of `unit` with a title and returns its `advance(done, all)`.

    Without a terminal nothing is drawn: the caller's own lines are the progress.
    """
    if not out.is_terminal:
        yield lambda title: lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=out, transient=True) as bars:

        def start(title: str) -> Progress:
            for old in bars.task_ids:
                bars.remove_task(old)
            task = bars.add_task(title, total=None, rate="")

            def advance(done: int, total: int) -> None:
                elapsed = bars.tasks[-1].elapsed or 0
                rate = f"{done / elapsed:.1f} {unit}/s" if elapsed > 0 else ""
                bars.update(task, completed=done, total=total, rate=rate)

            return advance

        yield start


def summary(results: Sequence[SlideResult]) -> str:
    """Return the counts per status in one line."""
    counts = {status: sum(r.status == status for r in results) for status in STYLES}
    return f"{counted(len(results), 'slide')}: " + ", ".join(f"{n} {status}" for status, n in counts.items())


def verdict_table(results: Sequence[SlideResult]) -> Table:
    """Return a table with one row a slide: status, verdict, probability, areas and reasons."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    class_names = [c.name for c in results[0].model.classes] if results else []
    for name in ("slide", "status", "verdict", "probability"):
        table.add_column(name, no_wrap=True)
    for name in class_names:
        table.add_column(f"{name} mm²", justify="right", no_wrap=True)
    table.add_column("reasons")
    for r in results:
        style = STYLES[r.status]
        verdict = r.verdict.label + "".join(f" + {a}" for a in r.verdict.also) if r.verdict else "–"
        sure = probability_words(r.verdict.probability[r.verdict.label]) if r.verdict and not r.is_unseen else "–"
        areas = {b.class_name: f"{b.area_mm2:.3f}" for b in r.burdens}
        reasons = ", ".join(reason.code for reason in r.reasons)
        cells = [areas.get(name, "–") for name in class_names]
        table.add_row(r.slide_id, f"[{style}]{r.status}[/{style}]", verdict, sure, *cells, reasons)
    return table
