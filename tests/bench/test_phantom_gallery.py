"""The gallery shows what the generator draws today."""

from pathlib import Path

from histo.phantom.slide import FORMAT

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"


def test_the_pictures_are_of_the_generators_format():
    """Regression: the pictures of format 5 stood in the pages a format later, when all calcium looked otherwise."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"Phantoms of format {FORMAT}." in text
