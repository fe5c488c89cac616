"""The worklist of a run: one page that leads to every slide's report."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from histo.export.pages import css_colour, href, render, script_hash, verdict_colour
from histo.export.words import label_words, model_words
from histo.files import write_text
from histo.out_folder import RESULTS
from histo.results import RESEARCH_USE, SlideResult, Status

ORDER: tuple[Status, ...] = ("review", "failed", "refused", "done")
_SCRIPT = Path(__file__).parent / "templates" / "sort.js"


def write_index(results: Sequence[SlideResult], path: Path, title: str) -> None:
    """Write the page beside `slides/`; what needs a person comes first, then findings before normal slides.

    Only reports and overlays that exist are linked. The page is whole without its script, which only sorts.
    """
    classes = {c.name: css_colour(c.colour) for r in results for c in r.model.classes}
    places = _places(results)
    script = _SCRIPT.read_text(encoding="utf-8")
    page = render(
        "index.html.j2",
        title=title,
        rows=[_row(r, path.parent, places[r.slide_id]) for r in sorted(results, key=_urgency)],
        classes=classes,
        counts=[(status, Counter(r.status for r in results)[status]) for status in ORDER],
        verdicts=Counter(
            label_words(r.verdict.label, r.model) for r in results if r.verdict and r.status == "done"
        ).most_common(),
        models=sorted({model_words(r.model) for r in results}),
        research_use=next((r.research_use for r in results), RESEARCH_USE),
        script=script,
        script_hash=script_hash(script),
    )
    write_text(path, page)


def _urgency(result: SlideResult) -> tuple[int, bool, str]:
    normal = result.verdict is None or result.verdict.label == result.model.normal_label
    return ORDER.index(result.status), normal, result.slide_id


def _places(results: Sequence[SlideResult]) -> dict[str, str]:
    """Return of every slide by its id where its file lies, as far as its id does not say it.

    Files of one name are told from where their folders part on: `a/HE/1.svs` and `b/HE/1.svs`, and not twice `HE`.
    """
    by_name: dict[str, list[SlideResult]] = {}
    for result in results:
        by_name.setdefault(Path(result.path).stem.casefold(), []).append(result)
    places = {}
    for same in by_name.values():
        files = [Path(r.path).absolute() for r in same]
        shared = os.path.commonpath([file.parent for file in files])
        for result, file in zip(same, files, strict=True):
            says_it = len(same) == 1 and result.slide_id == file.stem
            places[result.slide_id] = "" if says_it else file.relative_to(shared).as_posix()
    return places


def _row(result: SlideResult, folder: Path, told_place: str) -> dict[str, object]:
    """Return what the page shows of a slide, with links to the files that are there."""
    place = Path(RESULTS) / result.slide_id

    def link(kind: str) -> str | None:
        name = result.files.get(kind)
        return href((place / name).as_posix()) if name and (folder / place / name).is_file() else None

    return {
        "result": result,
        "colour": verdict_colour(result),
        "report": link("report"),
        "overlay": link("overlay"),
        "thumbnail": link("thumbnail"),
        "place": told_place,
        "burdens": {b.class_name: b for b in result.burdens},
    }
