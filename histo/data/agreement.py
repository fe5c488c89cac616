"""Whether the outlines of a slide lead to its label; one of the two would be taught wrong otherwise."""

from collections.abc import Collection, Container
from typing import Protocol

from histo.data.annotations import IGNORE
from histo.data.records import SlideRecord


class Rules(Protocol):
    """What leads from classes to a label: those of a configuration, or of a model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels: the normal one, then the others in order of precedence."""
        ...

    def label_of(self, found: Container[str]) -> str:
        """Return the label that the classes found lead to."""
        ...


def says_nothing(outlined: Collection[str]) -> bool:
    """Tell whether nothing but what is to be ignored is outlined: of a lesion, and of the rest, that says nothing."""
    return set(outlined) == {IGNORE}


def contradiction(record: SlideRecord, outlined: Collection[str], rules: Rules, complete: bool = True) -> str | None:
    """Return a sentence when the outlined classes lead to another verdict than the slide's label, else None.

    Where outlines are not `complete`, what the label says may be there and not outlined: then only a lesion that comes
    before the label in the order of precedence, or any lesion on a normal slide, contradicts it.
    """
    complete = complete and not says_nothing(outlined)
    implied = rules.label_of(outlined)
    normal, *lesion_labels = rules.labels
    if implied == record.label or record.label not in rules.labels:  # an unknown label is told where it stands
        return None
    if not complete and record.label != normal and implied not in lesion_labels[: lesion_labels.index(record.label)]:
        return None
    lesions = sorted(name for name in outlined if rules.label_of({name}) != rules.label_of(()))
    drawn = " and ".join(lesions) or "no lesion"
    return (
        f"slide {record.slide} is labelled {record.label}, and {record.annotation} outlines {drawn}, which means "
        f"{implied}; correct the label or the outlines"
    )
