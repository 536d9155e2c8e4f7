"""How fast a run is: images per second, the share of time spent waiting for data, compilation, peak memory.

None of it is a function of the step, so none of it belongs to `metrics.jsonl`: these rows go to `throughput.jsonl`.
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from ..._base.check import check_at_least

T = TypeVar("T")


class Throughput:
    """A stopwatch: time the batches and the compilations, count the updates, and take a row per logging window.

    Args:
        batch: images (or other samples) of one update, over all processes.
        clock: seconds that never go back.
    """

    def __init__(self, batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        check_at_least("batch", batch, 1)
        self._batch, self._clock = batch, clock
        self._begin(clock())

    def time_batches(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time that each is waited for counts as waiting for data."""
        iterator = iter(batches)
        while True:
            with self.waiting():
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    def waiting(self) -> AbstractContextManager[None]:
        """What runs inside is waiting for data. Not to be nested, nor put inside `compiling`."""
        return self._timing("waiting")

    def compiling(self) -> AbstractContextManager[None]:
        """What runs inside is compilation."""
        return self._timing("compiling")

    @contextmanager
    def _timing(self, what: str) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        finally:
            self._spent[what] += self._clock() - max(start, self._started)

    def update(self) -> None:
        """Counts one update."""
        self._updates += 1

    def row(self, device_memory: int | None = None) -> dict[str, Any]:
        """The row of the window that ends now, and the beginning of the next.

        `seconds` of the window; `images_per_second` over the time that was no compilation, None if there was none;
        `data_wait_share` of all the time, in [0, 1]; `compile_seconds`; `host_memory_peak` of the process and
        `device_memory_peak`, in bytes since the process began, None where unknown.

        Args:
            device_memory: bytes at the peak on the device, or None.
        """
        now = self._clock()
        seconds = now - self._started
        running = seconds - self._spent["compiling"]
        row = {
            "seconds": seconds,
            "images_per_second": self._updates * self._batch / running if running > 0 else None,
            "data_wait_share": min(self._spent["waiting"] / seconds, 1.0) if seconds > 0 else 0.0,
            "compile_seconds": self._spent["compiling"],
            "host_memory_peak": host_memory_peak(),
            "device_memory_peak": device_memory,
        }
        self._begin(now)
        return row

    def _begin(self, now: float) -> None:
        self._started = now
        self._spent = {"waiting": 0.0, "compiling": 0.0}
        self._updates = 0


def host_memory_peak() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not say."""
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
