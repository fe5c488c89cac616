"""Running tests: lay out, score what is missing with the time left told, judge."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from histo.stress.judge import Check, Outcome, combine
from histo.stress.scoring import Task, Work, missing, score_all
from histo.stress.seen import Seen
from histo.stress.trial import Kit, Trial, Views
from histo.stress.views import Source, View
from histo.timing import Progress, Say

SAY_EVERY_S = 15.0


@dataclass(frozen=True)
class Judged:
    """A test with its outcome and checks."""

    trial: Trial
    outcome: Outcome
    checks: tuple[Check, ...]


def lay_out(kit: Kit, trials: Sequence[Trial]) -> dict[int, Views]:
    """Return the views of every test by its number."""
    return {trial.number: trial.views(kit) for trial in trials}


def tasks_of(laid: dict[int, Views]) -> list[Task]:
    """Return every source with its views once, in the order of the tests; a map is kept where any test wants it."""
    views: dict[Source, dict[str, View]] = {}
    for series in (s for by_variant in laid.values() for s in by_variant.values()):
        for view in series:
            mine = views.setdefault(view.source, {})
            before = mine.get(view.key)
            mine[view.key] = replace(view, keep_map=view.keep_map or (before is not None and before.keep_map))
    return [(source, tuple(mine.values())) for source, mine in views.items()]


def score(kit: Kit, laid: dict[int, Views], workers: int, cores: int, advance: Progress, say: Say) -> None:
    """Score every view that is not there yet."""
    work = Work(kit.model, kit.phantoms, kit.store, kit.device, max(1, cores // workers))
    tasks = tasks_of(laid)
    left = missing(tasks, work)
    total, todo = sum(len(v) for _, v in tasks), sum(len(v) for _, v in left)
    say(f"{total} slides from {len(tasks)} phantoms; {total - todo} were scored before")
    started = told = time.monotonic()
    scored = 0

    def done(count: int) -> None:
        nonlocal scored, told
        scored += count
        now = time.monotonic()
        advance(total - todo + scored, total)
        if now - told >= SAY_EVERY_S or scored == todo:
            told = now
            each = (now - started) / scored
            time_left = left_words(each * (todo - scored))
            say(f"{total - todo + scored}/{total} slides, {each:.1f} s each, about {time_left} left")

    if left:
        score_all(left, work, min(workers, len(left)), done)


def left_words(seconds: float) -> str:
    """Return a time in words.

    >>> left_words(40), left_words(600), left_words(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def judge_all(kit: Kit, trials: Sequence[Trial], laid: dict[int, Views], say: Say) -> list[Judged]:
    """Judge every test by what was scored, and do what has no views."""
    keys = {view.key for by in laid.values() for series in by.values() for view in series}
    kept: dict[str, Seen | None] = {key: kit.store.read(key) for key in keys}
    judged = []
    for trial in trials:
        if trial.run:
            say(f"{trial.number} {trial.name}")
        seen = {variant: [kept[v.key] for v in series] for variant, series in laid[trial.number].items()}
        checks = tuple(trial.run(kit) if trial.run else trial.judge(kit, seen))
        judged.append(Judged(trial, combine(checks), checks))
    return judged
