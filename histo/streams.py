"""Standard output and error of commands whose results are files: what cannot be written there ends no run."""

import io
import os
import select
import sys
from typing import Any


class _Unfailing(io.RawIOBase):
    """A descriptor of which nothing more is asked once it fails: the reader has left, or the log's disk is full."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._is_heard = descriptor, True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        """Write what the descriptor takes of some bytes; all of them go nowhere once it has failed."""
        if self._is_heard:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program made the terminal so; it is only full for a moment
                select.select([], [self._descriptor], [])
                return self.write(data)
            except OSError:
                self._is_heard = False
        return memoryview(data).nbytes


def _descriptor(stream: object) -> int | None:
    """Return the descriptor that a stream writes to; None for one that keeps what it is given, as a notebook's."""
    try:
        return stream.fileno() if isinstance(stream, io.TextIOWrapper) else None
    except OSError:
        return None


def settle_streams() -> None:
    """Let output never fail: not where nobody reads it, not where it was closed, not for names that are no text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us: the next file must not take its number, C writes there
            raw = io.BufferedWriter(_Unfailing(os.open(os.devnull, os.O_WRONLY)))
            setattr(sys, name, io.TextIOWrapper(raw, errors="backslashreplace"))
        elif (descriptor := _descriptor(stream)) is not None:
            stream.flush()
            raw = io.BufferedWriter(_Unfailing(descriptor))
            lines = stream.line_buffering
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=lines))
