"""Whether the outlines of a slide lead to its label; one of the two would be taught wrong otherwise."""

from collections.abc import Container

from histo.config import ClassesConfig
from histo.data.records import SlideRecord


def contradiction(record: SlideRecord, outlined: Container[str], classes: ClassesConfig) -> str | None:
    """Return a sentence when the outlined classes lead to another verdict than the slide's label, else None."""
    implied = classes.label_of(outlined)
    if implied == record.label:
        return None
    drawn = " and ".join(c.name for c in classes.lesions if c.name in outlined) or "no lesion"
    return (
        f"slide {record.slide} is labelled {record.label}, and {record.annotation} outlines {drawn}, which means "
        f"{implied}; correct the label or the outlines"
    )
