"""The table of a stress run: JSON and CSV for programs, a page with pictures for people, a table for the console."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image
from rich.markup import escape
from rich.table import Table

import histo
from histo.export.pages import href, render
from histo.files import whole, write_table, write_text
from histo.models.engine import device_kind
from histo.results import RESEARCH_USE
from histo.stress.catalogue import CATALOGUE
from histo.stress.disturb import CLEAN, cut_out, disturb, read_picture
from histo.stress.judge import Check, Outcome
from histo.stress.picture import Rgb
from histo.stress.run import Judged
from histo.stress.trial import Kit, Views
from histo.stress.views import View, make

HEADER: Final = ("number", "test", "group", "criterion", "outcome", "check", "figure", "value", "limit", "n", "needs",
    "check_outcome")  # fmt: skip
STYLES: Final[Mapping[Outcome, str]] = {
    "pass": "green", "fail": "red", "insufficient n": "yellow", "not run": "magenta", "reported": "dim",
}  # fmt: skip
SYNTHETIC: Final = "SYNTHETIC: phantoms alone, no clinical meaning."
_CLOSE_PX, _SIDE_PX = 512, 256


def summary(judged: Sequence[Judged]) -> str:
    """Return how many tests passed, in one line; what was not decided never counts as passed."""
    counts = {o: sum(j.outcome == o for j in judged) for o in ("pass", "fail", "insufficient n", "not run")}
    kept = sum(j.outcome == "insufficient n" and _kept_so_far(j.checks) for j in judged)
    words = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    return f"{len(judged)} test{'s' if len(judged) != 1 else ''}: {words}" + (
        f" ({kept} of those with too few slides within every limit so far)" if kept else ""
    )


def _kept_so_far(checks: Sequence[Check]) -> bool:
    open_ = [c for c in checks if c.outcome == "insufficient n"]
    return bool(open_) and all(c.kept for c in open_)


def mark(check: Check) -> str:
    """Return a check's outcome in words; one with too few slides says whether it kept its limit so far."""
    if check.outcome != "insufficient n":
        return check.outcome
    return "insufficient n" if check.kept is None else f"insufficient n ({'within' if check.kept else 'beyond'})"


def table(judged: Sequence[Judged]) -> Table:
    """Return the console's table: a row a check, the test's own outcome in its first."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "test", "outcome", "check", "figure", "limit", "n", "of the check"):
        shown.add_column(name, no_wrap=name not in ("figure", "check"))
    for j in judged:
        style = STYLES[j.outcome]
        first = [str(j.trial.number), j.trial.name, f"[{style}]{j.outcome}[/{style}]"]
        for check in j.checks:
            style = STYLES[check.outcome]
            n = f"{check.n} of {check.needs}" if check.n < check.needs else str(check.n or "")
            words = [escape(check.what), escape(check.figure), check.limit, n, f"[{style}]{mark(check)}[/{style}]"]
            shown.add_row(*first, *words)
            first = ["", "", ""]
        if not j.checks:
            shown.add_row(*first)
    return shown


def head_of(kit: Kit) -> dict[str, Any]:
    """Return what a run was done with."""
    return {
        "histo": histo.__version__,
        "model": kit.model.card.name,
        "model_digest": kit.model.digest,
        "device": device_kind(kit.device),
        "seed": kit.seed,
        "slides": kit.slides or "as the reference has it (60 for invariance, 30 otherwise)",
        "size_px": kit.size_px,
        "needle_size_px": kit.needle_size_px,
        "domain": "shift",
        "synthetic": SYNTHETIC,
        "research_use": RESEARCH_USE,
    }


def write_all(kit: Kit, judged: Sequence[Judged], laid: Mapping[int, Views], command: str) -> None:
    """Write stress.json, stress.csv and stress.html into the run's folder, and the pictures of the page."""
    head = head_of(kit) | {"command": command, "summary": summary(judged)}
    tests = [
        {
            "number": j.trial.number,
            "name": j.trial.name,
            "group": j.trial.group,
            "title": j.trial.title,
            "criterion": j.trial.criterion,
            "notes": list(j.trial.notes),
            "outcome": j.outcome,
            "checks": [asdict(c) | {"value": _finite(c.value)} for c in j.checks],
        }
        for j in judged
    ]
    write_text(kit.out / "stress.json", json.dumps(head | {"tests": tests}, indent=1, ensure_ascii=False) + "\n")
    rows = [_row(j, c) for j in judged for c in j.checks]
    write_table(kit.out / "stress.csv", HEADER, rows)
    pictures = {j.trial.number: _pictures(kit, laid[j.trial.number]) for j in judged}
    page = render(
        "stress.html.j2", title="Stress and shortcut tests", head=head, judged=judged, pictures=pictures, mark=mark
    )
    write_text(kit.out / "stress.html", page)


def read_judged(kit: Kit) -> list[Judged]:
    """Return what an earlier run into the same folder found; nothing where that had another model, seed or slides."""
    try:
        told = json.loads((kit.out / "stress.json").read_text(encoding="utf-8"))
        if any(told.get(key) != value for key, value in head_of(kit).items()):
            return []
        found = {t["number"]: (t["outcome"], tuple(Check(**c) for c in t["checks"])) for t in told["tests"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [Judged(trial, *found[trial.number]) for trial in CATALOGUE if trial.number in found]


def noted(kit: Kit, judged: Sequence[Judged]) -> dict[str, Any]:
    """Return what a model's card says of a run: with what it was done, and outcome and figures of every test.

    What was not run has no figure: the command that would run it names folders of this machine.
    """
    head = {k: v for k, v in head_of(kit).items() if k in ("histo", "device", "seed", "slides", "size_px", "domain")}
    tests = {
        f"{j.trial.number} {j.trial.name}": {
            "outcome": j.outcome,
            "figures": {c.what: c.figure for c in j.checks if c.outcome != "not run"},
        }
        for j in judged
    }
    return head | {"summary": summary(judged), "tests": tests}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _row(judged: Judged, check: Check) -> tuple[str, ...]:
    trial, value = judged.trial, _finite(check.value)
    return (
        str(trial.number), trial.name, trial.group, trial.criterion, judged.outcome, check.what, check.figure,
        "" if value is None else f"{value:.6g}", check.limit, str(check.n), str(check.needs), check.outcome,
    )  # fmt: skip


def _pictures(kit: Kit, views: Views) -> list[tuple[str, str]]:
    """Return (variant, link) of one slide of every variant: its middle where it is disturbed, else all of it."""
    found = []
    for variant, series in views.items():
        if series and variant != CLEAN:
            view = series[min(1, len(series) - 1)]  # the first base slide is a normal one
            path = kit.out / "pictures" / f"{view.key}.jpg"
            if path.is_file() or _draw(kit, view, path):
                found.append((variant, href(f"pictures/{path.name}")))
    return found


def _draw(kit: Kit, view: View, path: Path) -> bool:
    """Write the picture of a view; one whose slide was deleted since, or is too large to be held, has none."""
    slide = kit.phantoms / f"{view.source.key}.svs"
    if not slide.is_file() or view.source.size_px > 2 * kit.size_px:
        return False
    made = make(view.source, kit.phantoms)
    picture = disturb(
        read_picture(made.slide, view.source.stain(made.attempt)), view.name, dict(view.numbers), view.source.key
    )
    rgb: Rgb = picture.rgb
    if view.name not in (CLEAN, "pen", "glass", "edge_cut", "crumb"):
        rgb = cut_out(picture, round(_CLOSE_PX * 0.5 / picture.mpp)).rgb
    scale = _SIDE_PX / max(rgb.shape[:2])
    size = tuple(max(1, round(n * scale)) for n in rgb.shape[1::-1])
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        Image.fromarray(np.asarray(small, np.uint8)).save(
            temporary, format="JPEG", quality=min(90, picture.quality or 90)
        )
    return True
