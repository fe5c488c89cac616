"""From the lesion classes on a slide to its label, and back: the first class in order of precedence decides."""

from collections.abc import Container, Sequence
from typing import Protocol


class Rule(Protocol):
    """A lesion class and the label that it leads to."""

    @property
    def name(self) -> str:
        """The class."""

    @property
    def verdict(self) -> str:
        """The slide label."""


def labels_of(rules: Sequence[Rule], normal_label: str) -> tuple[str, ...]:
    """Return every label that a slide can have, the normal one first."""
    return (normal_label, *dict.fromkeys(rule.verdict for rule in rules))


def label_of(found: Container[str], rules: Sequence[Rule], normal_label: str) -> str:
    """Return the slide label for the lesion classes found.

    >>> from histo.config import ClassConfig
    >>> bone = ClassConfig(name="bone", colour=(0, 0, 0), min_area_mm2=1, verdict="ho")
    >>> label_of({"bone"}, [bone], "normal"), label_of(set(), [bone], "normal")
    ('ho', 'normal')
    """
    return next((rule.verdict for rule in rules if rule.name in found), normal_label)


def leading_to(label: str, rules: Sequence[Rule]) -> tuple[int, ...]:
    """Return the places of the classes that lead to a label, of which there are none for the normal one."""
    return tuple(k for k, rule in enumerate(rules) if rule.verdict == label)


def known_classes(label: str, rules: Sequence[Rule]) -> dict[str, bool]:
    """Return by name which lesion classes are on a slide of this label and which are not; the others are left out.

    Classes before the one that decided are absent, those after it may be there or not. Of several classes that lead to
    the label nothing is known of any one.
    """
    leading = leading_to(label, rules)
    first = leading[0] if leading else len(rules)
    known = {rule.name: False for rule in rules[:first]}
    return known | ({rules[first].name: True} if len(leading) == 1 else {})
