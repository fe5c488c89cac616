"""A folder belongs to one run at a time, and what its disk refuses is told in one sentence."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from histo.errors import ArchiveError


@contextmanager
def owned(out: Path, instead: str = "give another --out") -> Iterator[None]:
    """Hold the folder of a run: a lock that the system drops when the process ends, however it ends.

    Raises `ArchiveError` where another process holds it, with what to do `instead` of waiting, or the disk refuses.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  held to the end of the run
    except OSError as error:
        raise stopped_by(out, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise ArchiveError(f"{out} is in use by {owner}; wait for it or {instead}") from error
        except OSError as error:
            raise stopped_by(out, error) from error
        yield


def stopped_by(out: Path, error: OSError) -> ArchiveError:
    """Return what to tell the user of an error that the folder's disk gave."""
    if error.errno == errno.ENOSPC:
        return ArchiveError(f"the disk of {out} is full; free some space and run the same command again")
    return ArchiveError(f"{out} cannot be written ({error.strerror or error}); give another --out or mend the folder")
