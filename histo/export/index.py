"""The worklist of a run: one page that leads to every slide's report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from histo.export.pages import css_colour, href, render, script_hash, verdict_colour
from histo.export.words import model_words
from histo.files import write_text
from histo.results import RESEARCH_USE, SlideResult, Status

ORDER: tuple[Status, ...] = ("review", "failed", "refused", "done")
_SCRIPT = Path(__file__).parent / "templates" / "sort.js"


def write_index(results: Sequence[SlideResult], path: Path, title: str) -> None:
    """Write the page beside `slides/`; what needs a person comes first, then findings before normal slides.

    Only reports and overlays that exist are linked. The page is whole without its script, which only sorts.
    """
    classes = {c.name: css_colour(c.colour) for r in results for c in r.model.classes}
    stems = Counter(Path(r.path).stem for r in results)
    script = _SCRIPT.read_text(encoding="utf-8")
    page = render(
        "index.html.j2",
        title=title,
        rows=[_row(r, path.parent, stems) for r in sorted(results, key=_urgency)],
        classes=classes,
        counts=[(status, Counter(r.status for r in results)[status]) for status in ORDER],
        verdicts=Counter(r.verdict.label for r in results if r.verdict and r.status == "done").most_common(),
        models=sorted({model_words(r.model) for r in results}),
        research_use=next((r.research_use for r in results), RESEARCH_USE),
        script=script,
        script_hash=script_hash(script),
    )
    write_text(path, page)


def _urgency(result: SlideResult) -> tuple[int, bool, str]:
    normal = result.verdict is None or result.verdict.label == result.model.normal_label
    return ORDER.index(result.status), normal, result.slide_id


def _row(result: SlideResult, folder: Path, stems: Mapping[str, int]) -> dict[str, object]:
    """Return what the page shows of a slide, with links to the files that are there.

    Of slides that share their name it shows the folder, too.
    """
    place, slide = Path("slides") / result.slide_id, Path(result.path)

    def link(name: str) -> str | None:
        return href((place / name).as_posix()) if (folder / place / name).is_file() else None

    return {
        "result": result,
        "colour": verdict_colour(result),
        "report": link("report.html"),
        "overlay": link("overlay.png"),
        "place": slide.parent.name if stems[slide.stem] > 1 else None,
        "burdens": {b.class_name: b for b in result.burdens},
    }
