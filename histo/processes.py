"""How a worker process behaves towards its parent."""

import multiprocessing
import os
import signal
import threading


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
