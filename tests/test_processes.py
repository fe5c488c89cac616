import subprocess
import sys

import pytest

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
