"""Ctrl-C in a training: heeded between two steps, where nothing can swallow it or be left half done.

An interruption that falls into the clearing away of loaders would be ignored there, and one that ends the loaders first
can leave the training waiting for them for ever.
"""

import os
import signal
import threading
from types import FrameType, TracebackType

_TOLD = b"\nstopping after this step; Ctrl-C again stops at once\n"


class Interrupt:
    """Within it the first Ctrl-C waits for `heed`, and a second one stops at once. Forked loaders ignore both."""

    def __init__(self) -> None:
        self._asked, self._owner = False, os.getpid()
        self._before: signal._HANDLER = signal.default_int_handler

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._take)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)
        # Lightning turns Ctrl-C into exit code 1; for us it is an interruption like any other.
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None

    def heed(self) -> None:
        """Raise `KeyboardInterrupt` if it was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        os.write(2, _TOLD)  # to stderr; print could be at work itself
