"""What a slide's label says of the classes on it, by the verdict rule of the classes' configuration."""

from dataclasses import dataclass

from histo.config import ClassesConfig
from histo.precedence import leading_to


@dataclass(frozen=True)
class Presence:
    """Network outputs of which at least one is on the slide (empty: none), and those that are certainly not on it."""

    one_of: tuple[int, ...]
    absent: tuple[int, ...]

    @property
    def questions(self) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Groups of classes, each with 1 when at least one of them is on the slide and 0 when none is."""
        present = ((self.one_of, 1.0),) if self.one_of else ()
        return (*present, *(((c,), 0.0) for c in self.absent))


def presence_of(label: str, classes: ClassesConfig) -> Presence:
    """Return what a slide label says of every lesion class.

    The first class in order of precedence decides the verdict, so those before it are absent and those after it may be
    there or not. The normal label says that none is there. Class indices are those of the network's outputs.
    """
    leading = leading_to(label, classes.lesions)
    absent = leading[0] if leading else len(classes.lesions)
    return Presence(tuple(k + 1 for k in leading), tuple(range(1, absent + 1)))


def verdict_of(present: tuple[bool, ...], classes: ClassesConfig) -> str:
    """Return the slide label for the lesion classes found, in order of precedence.

    >>> from histo.config import ClassConfig
    >>> bone = ClassConfig(name="bone", colour=(0, 0, 0), min_area_mm2=1, verdict="ho")
    >>> verdict_of((True,), ClassesConfig(lesions=(bone,))), verdict_of((False,), ClassesConfig(lesions=(bone,)))
    ('ho', 'normal')
    """
    return classes.label_of({c.name for c, there in zip(classes.lesions, present, strict=True) if there})
