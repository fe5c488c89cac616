"""How a process behaves: with its memory, as a worker towards its parent, and as one of several at the same work."""

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

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


def side_by_side(
    work: Callable[[T], R],
    tasks: Iterable[T],
    workers: int,
    begin: Callable[..., None] = follow_parent,
    given: tuple[Any, ...] = (),
    stop: Callable[[], None] = lambda: None,
) -> Generator[R, None, None]:
    """Yield what `work` makes of every task, as it is finished by one of several processes.

    No task waits in a queue, so that Ctrl-C costs no more than those at work; `stop` is called before these are waited
    for. `begin(*given)` prepares a process. Raises BrokenProcessPool when one is killed.
    """
    left = iter(tasks)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=begin, initargs=given)
    try:
        running = {pool.submit(work, task) for task in itertools.islice(left, workers)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
            running |= {pool.submit(work, task) for task in itertools.islice(left, len(ended))}
    finally:
        stop()
        pool.shutdown(wait=True, cancel_futures=True)
