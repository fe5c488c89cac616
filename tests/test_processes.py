import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any

import pytest

from histo.processes import side_by_side

# Threads that each hold a block at the same time; prints how many heaps glibc has then.
SCRIPT = """
import ctypes, sys, threading
from histo.processes import share_one_heap
if sys.argv[1] == "one":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
all_hold = threading.Barrier(4)
def hold():
    block = libc.malloc(20_000)
    all_hold.wait()
    libc.free(block)
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
print(open(sys.argv[2]).read().count("<heap "))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heap of other systems is not glibc's")
def test_threads_share_one_heap(tmp_path):
    def heaps(how):
        command = [sys.executable, "-c", SCRIPT, how, str(tmp_path / how)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert heaps("many") > 1
    assert heaps("one") == 1


def _squared(number: int) -> int:
    return number * number


def _killed(number: int) -> None:
    os._exit(number)


def test_every_task_is_worked_on_once_and_only_as_many_as_there_are_processes_are_taken():
    taken: list[int] = []

    def tasks():
        for number in range(5):
            taken.append(number)
            yield number

    with closing(side_by_side(_squared, tasks(), 2)) as found:
        first = next(found)
        assert taken == [0, 1]
        assert sorted([first, *found]) == [0, 1, 4, 9, 16]


def _waits(number: int) -> int:
    _EVENT[0].wait(30 if number else 0)
    return number


_EVENT: list[Any] = []


def _begin(event: Any) -> None:
    _EVENT.append(event)


def test_whoever_leaves_early_tells_the_processes_before_waiting_for_them():
    event = multiprocessing.get_context("spawn").Event()
    started = time.monotonic()
    with closing(side_by_side(_waits, range(9), 2, _begin, (event,), event.set)) as found:
        assert next(found) == 0
    assert event.is_set()
    assert time.monotonic() - started < 25, "the task at work waited to its end"


def test_a_process_that_is_killed_is_an_error_and_no_hang():
    with pytest.raises(BrokenProcessPool):
        list(side_by_side(_killed, [3], 1))
