"""One labelled slide of a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SlideRecord:
    """One row: `path` and `annotation` are absolute or relative to the working folder; `mpp` overrides the file's.

    `extra` holds the user's own columns (sex, scanner …), by which results can be grouped.
    """

    slide: str
    path: Path
    patient: str
    label: str
    annotation: Path | None = None
    mpp: float | None = None
    split: str | None = None
    site: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
