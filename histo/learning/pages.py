"""A report as sections of plain text, tables and pictures, written as Markdown and as one HTML file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from histo.files import write_text

STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:56em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}img{max-width:100%}"
    ".warning{border-left:4px solid #c0392b;padding-left:.7em}"
)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, points, one table (header first) and the names of pictures beside the report."""

    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[str] = field(default=())
    is_warning: bool = False


def write_pages(folder: Path, title: str, sections: Sequence[Section]) -> None:
    """Write `report.md`, and `report.html` with its pictures inside."""
    write_text(folder / "report.md", "\n".join([f"# {title}", "", *(_markdown(s) for s in sections)]))
    body = "".join(_html(s, folder) for s in sections)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    write_text(folder / "report.html", f"{head}<h1>{escape(title)}</h1>{body}</html>\n")


def _markdown(section: Section) -> str:
    lines = [f"## {section.title}", ""]
    for paragraph in section.paragraphs:
        lines += [paragraph, ""]
    lines += [f"- {point}" for point in section.points] + [""] * bool(section.points)
    if section.table:
        header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in section.table]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    lines += [f"![{name}]({name})" for name in section.pictures] + [""] * bool(section.pictures)
    return "\n".join(lines)


def _html(section: Section, folder: Path) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(p)}</p>" for p in section.paragraphs]
    if section.points:
        parts.append("<ul>" + "".join(f"<li>{escape(p)}</li>" for p in section.points) + "</ul>")
    if section.table:
        header, *rows = section.table
        parts.append("<table><tr>" + "".join(f"<th>{escape(c)}</th>" for c in header) + "</tr>")
        parts += ["<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows] + ["</table>"]
    for name in section.pictures:
        data = base64.b64encode((folder / name).read_bytes()).decode()
        parts.append(f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>')
    kind = ' class="warning"' if section.is_warning else ""
    return f"<section{kind}>{''.join(parts)}</section>"
