"""How a process behaves: with its memory, and as a worker towards its parent."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_one_heap() -> None:
    """Let all threads allocate from one heap, on glibc; call it before threads are started.

    A heap for every thread keeps what that thread has freed: a fifth of the memory of `histo infer`, and more the
    longer a slide takes. Tiles are few and large, so threads hardly ever wait for the one heap (docs/speed.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def follow_parent() -> None:
    """Make a worker leave Ctrl-C to its parent, and end with it however the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent; killed, it closes nothing, and its workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
