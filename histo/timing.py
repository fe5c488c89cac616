"""Where the time of a run goes: seconds, processor seconds, calls and bytes per stage, summed over threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Progress = Callable[[int, int], None]  # is told how many are done, and of how many
Say = Callable[[str], None]  # is told a line of what is going on


@dataclass
class Stage:
    """One stage: `busy_s` is wall time summed over the threads in it, `cpu_s` what their cores spent on it."""

    calls: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    bytes: int = 0


class Timings:
    """Collects stages from any thread, in the order in which they were first entered."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, size_bytes: int = 0) -> Iterator[None]:
        """Add the time of a block, and the bytes that it handles, to a stage."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - wall, time.thread_time() - cpu, size_bytes)

    def timed(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        """Do `work` as one call of a stage."""
        with self.stage(name):
            work(*arguments)

    def add(self, name: str, busy_s: float, cpu_s: float, size_bytes: int = 0) -> None:
        """Add one call of a stage."""
        with self._lock:
            stage = self.stages.setdefault(name, Stage())
            stage.calls += 1
            stage.busy_s += busy_s
            stage.cpu_s += cpu_s
            stage.bytes += size_bytes

    def include(self, other: "Timings", prefix: str) -> None:
        """Add the stages of another collection, their names behind a prefix."""
        with self._lock:
            for name, theirs in other.stages.items():
                stage = self.stages.setdefault(prefix + name, Stage())
                stage.calls += theirs.calls
                stage.busy_s += theirs.busy_s
                stage.cpu_s += theirs.cpu_s
                stage.bytes += theirs.bytes
