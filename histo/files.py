"""Writing files so that they are whole or absent."""

import csv
import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well, flush it to disk and rename it to `path`.

    A block that raises leaves nothing behind and the old file as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def left_by_others(folder: Path) -> list[Path]:
    """Return what processes that were killed in a `whole` left in a folder; for whoever holds the folder alone."""
    return [path for path in folder.glob(".*.tmp") if re.fullmatch(r"\..+\.\d+\.tmp", path.name)]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the file is whole or absent."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file, every cell quoted where it must be, so that the file is whole or absent."""
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def sync(path: Path) -> None:
    """Flush a file or folder to the disk; some network disks take no such wish for a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any file or database takes; bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
