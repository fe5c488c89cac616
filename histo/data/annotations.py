"""Annotation files of any known format: outlines by class, in level-0 px.

The format is told by the content, never by the file's name; each has its reader in `annotation_formats`.
"""

import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree.ElementTree import Element

from histo.data.annotation_formats.aperio import read_aperio
from histo.data.annotation_formats.asap import read_asap
from histo.data.annotation_formats.drawn import UNCLASSIFIED, Drawn, shown
from histo.data.annotation_formats.dsa import is_dsa, read_dsa
from histo.data.annotation_formats.geojson import read_geojson
from histo.data.annotation_formats.mask import read_mask
from histo.data.annotation_formats.ndpa import read_ndpa
from histo.data.annotation_formats.xml_tree import parse_xml
from histo.errors import UsageError
from histo.geometry import Pyramid
from histo.outlines import Outline, mend, to_polygon

IGNORE = "ignore"  # QuPath's own word for regions that must not be learnt, also as `Ignore*`
NO_ALIASES: Mapping[str, str] = MappingProxyType({})
MAX_BYTES = 2**29
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XML = (b"<", b"\xff\xfe<\0", b"\xfe\xff\0<")


class Vocabulary:
    """Which class the words of annotation files mean, capitals and QuPath's `*` aside."""

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Take class names and other words for them or for `ignore`.

        Raises `UsageError` for an alias of no class, or one word with two meanings.
        """
        self.known = (*classes, IGNORE)
        self._meaning = {_plain(c): c for c in self.known}
        for word, name in aliases.items():
            if name not in self.known:
                raise UsageError(f"the alias {word!r} means {name!r}; use one of {', '.join(self.known)}")
            if self._meaning.setdefault(_plain(word), name) != name:
                raise UsageError(
                    f"the alias {word!r} means {name} and also {self._meaning[_plain(word)]}; keep one of the two"
                )

    def find(self, words: Sequence[str]) -> str | None:
        """Return the class that the first known word means."""
        return next((self._meaning[_plain(w)] for w in words if _plain(w) in self._meaning), None)


def _plain(word: str) -> str:
    return word.strip().rstrip("*").strip().casefold()


def read_annotations(
    path: Path, classes: Sequence[str], pyramid: Pyramid, aliases: Mapping[str, str] = NO_ALIASES
) -> Mapping[str, list[Outline]]:
    """Read an annotation file of any known format: outlines for each of `classes` that occurs, and for `ignore`.

    `aliases` says which class other words mean. Raises `UsageError` naming the file, the object and the problem: an
    unknown format, no class, an unknown class, a shape without area, coordinates outside the slide.
    """
    vocabulary = Vocabulary(classes, aliases)
    objects = read_objects(path, pyramid)
    outlines: dict[str, list[Outline]] = {}
    for drawn in objects:
        where = f"annotation {path}, {drawn.place}"
        name = vocabulary.find(drawn.words)
        if not drawn.area and name == IGNORE:
            continue  # a point or line that the user wants left out
        if name is None and drawn.area:
            raise UsageError(f"{where} {no_class(drawn, vocabulary, words_in(objects))}")
        found, problem = outlines_of(drawn, pyramid)
        if problem:
            raise UsageError(f"{where} {problem}")
        outlines.setdefault(str(name), []).extend(found)
    return outlines


def words_in(objects: Sequence[Drawn]) -> str:
    """Return the words by which a file calls its objects, as a message shows them."""
    found = sorted({shown(o.words[0]) for o in objects if o.words})
    return ", ".join(found[:12]) + (" …" if len(found) > 12 else "")


def no_class(drawn: Drawn, vocabulary: Vocabulary, file_words: str) -> str:
    """Say that an object has no class that is known, which are, and which words its file uses."""
    known = f"{', '.join(vocabulary.known[:-1])} or {IGNORE}"
    if UNCLASSIFIED in drawn.words:
        called = ", ".join(repr(shown(w)) for w in drawn.words[:-1])
        return (
            f"has no classification{f' (only {called})' if called else ''}; give it one of {known}, or say in "
            f"`data.aliases` (or with --map) what {UNCLASSIFIED} means"
        )
    return (
        f"has the unknown class {shown(drawn.words[0])!r}; use one of {known}, or say in `data.aliases` (or with "
        f"--map) what it means (the file's words are {file_words})"
    )


def outlines_of(drawn: Drawn, pyramid: Pyramid) -> tuple[list[Outline], str | None]:
    """Return the valid outlines of an object, or none and what is wrong with it."""
    if drawn.problem:
        return [], drawn.problem
    outlines = [outline for rings in drawn.polygons for outline in mend(rings)]
    if not outlines:
        return [], "has no area; draw it again or delete it"
    width, height = pyramid.size_level0_px
    boxes = [to_polygon(o).bounds for o in outlines]
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[2] for b in boxes), max(b[3] for b in boxes)
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return [], f"lies outside the slide of {width} x {height} px; is it another slide's annotation?"
    return outlines, None


def read_objects(path: Path, pyramid: Pyramid) -> list[Drawn]:
    """Read every object of an annotation file as it was drawn.

    Raises `UsageError` for a file that cannot be read or is of no known format.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            raise UsageError(f"annotation {path} is no file; give the file with the outlines")
        if status.st_size > MAX_BYTES:
            raise UsageError(f"annotation {path} has more than {MAX_BYTES >> 20} MB; export only what is to be learnt")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"annotation {path} cannot be read ({said}); check the path") from error
    try:
        return list(_reader(raw, path)(pyramid))
    except ValueError as error:
        raise UsageError(f"annotation {path} {error}") from error


Reader = Callable[[Pyramid], Iterator[Drawn]]


def _reader(raw: bytes, path: Path) -> Reader:
    if raw.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise ValueError("is compressed; unpack it, and give the file in it")
    if raw.startswith(_TIFF):
        return lambda pyramid: read_mask(path, pyramid)
    text = raw.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith(_XML):
        return _xml_reader(parse_xml(text.lstrip()))
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error}); export it again as GeoJSON") from error
    return _json_reader(tree)


def _xml_reader(root: Element) -> Reader:
    readers: dict[str, Reader] = {
        "ASAP_Annotations": lambda pyramid: read_asap(root),
        "Annotations": lambda pyramid: read_aperio(root),
        "annotations": lambda pyramid: read_ndpa(root, pyramid),
    }
    if root.tag not in readers:
        raise ValueError(
            f"is XML that begins with <{root.tag[:40]}>, and only ASAP, Aperio ImageScope and Hamamatsu NDPA are read; "
            "export it as GeoJSON"
        )
    return readers[root.tag]


def _json_reader(tree: Any) -> Reader:
    if is_dsa(tree):
        return lambda pyramid: read_dsa(tree)
    if isinstance(tree, dict) and "features" not in tree:
        if "darwin" in str(tree.get("schema_ref")):
            raise ValueError("is Darwin (V7) JSON, which is not read; export it as GeoJSON through QuPath or dlup")
        if "slideId" in tree and "content" in tree:
            raise ValueError(
                "is Sectra PathologyCore JSON, whose coordinates are fractions of a picture that it does not describe; "
                "draw the outlines in QuPath and export GeoJSON"
            )
    return lambda pyramid: read_geojson(tree, pyramid)
