"""A slide's frame, and reading of text as an annotation file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from histo.data.annotation_formats.drawn import Drawn
from histo.data.annotations import read_objects
from histo.geometry import Pyramid, Stage

STAGE = Stage((2_000_000.0, -1_000_000.0), (250.0, 500.0))
BOUNDED = Pyramid((40_000, 30_000), (1.0,), 0.5, 0.5, "user", (300, 700, 20_000, 20_000), STAGE)

Read = Callable[..., list[Drawn]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write text and read it as an annotation of a slide whose scanner filled only a part of it."""

    def read(text: str | bytes, pyramid: Pyramid = BOUNDED) -> list[Drawn]:
        path = tmp_path / "a.annotation"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_objects(path, pyramid)

    return read
