"""A shield between training and a tracker that may raise, hang or be slow."""

import collections
import contextlib
import copy
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .protocol import Tracker, Values
from .redaction import redact

QUIET_SECONDS = 60.0
"""The least time between two warnings of one tracker."""


def print_warning(message: str) -> None:
    """One line to the standard error stream."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


class Guarded:
    """A tracker whose calls run one after another on a daemon thread, and whose troubles stay there.

    Every method returns at once and never raises. At most `capacity` calls wait; while so many do, new ones are
    dropped and counted. A tracker whose `start` failed is not called again. `close` lets the waiting calls finish, for
    at most `patience` seconds; the thread does not keep the process alive.

    Args:
        tracker: the tracker to shield.
        capacity: how many calls may wait.
        patience: seconds that `close` waits at most.
        warn: gets a line of text, at most one a minute, on the thread that saw the trouble; must be quick.
        clock: seconds, for the pause between warnings.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        capacity: int = 64,
        patience: float = 5.0,
        warn: Callable[[str], None] = print_warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1, found {capacity}")
        if not 0 <= patience < threading.TIMEOUT_MAX:
            raise ValueError(f"patience: expected a number of seconds >= 0, found {patience}")
        self._tracker, self._name = tracker, type(tracker).__name__
        self._capacity, self._patience, self._warn, self._clock = capacity, patience, warn, clock
        self._waiting: collections.deque[tuple[str, tuple[Any, ...]]] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._warned: float | None = None
        self.failed = 0
        """Calls that raised."""
        self.dropped = 0
        """Calls that were never passed on: too many waited, the start had failed, or it was closed."""

    def start(self, folder: pathlib.Path, config: Mapping[str, Any], step: int) -> None:
        """Starts the thread, and the tracker on it."""
        self._thread = threading.Thread(target=self._run, name=f"tracker {self._name}", daemon=True)
        self._thread.start()
        self._enqueue("start", folder, copy.deepcopy(dict(config)), step)

    def log(self, step: int, values: Values) -> None:
        """Passes on a copy of the row."""
        self._enqueue("log", step, copy.deepcopy(dict(values)))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Passes on a copy of the picture."""
        self._enqueue("image", step, name, picture.copy())

    def flush(self) -> None:
        """Asks for it; does not wait."""
        self._enqueue("flush")

    def close(self) -> None:
        """Waits for the calls before it and the tracker's own `close`, but not beyond `patience`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(self._patience)
            if self._thread.is_alive():
                self._complain(f"did not close within {self._patience:g} s")

    def _enqueue(self, call: str, *arguments: Any) -> None:
        with self._changed:
            accepted = self._thread is not None and not self._closing and len(self._waiting) < self._capacity
            if accepted:
                self._waiting.append((call, arguments))
                self._changed.notify()
            else:
                self.dropped += 1
        if not accepted:
            self._complain(f"is {'closed' if self._closing else 'slow or hangs'}, {call} was dropped")

    def _run(self) -> None:
        works = True
        while works:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                call, arguments = self._waiting.popleft()
            works = self._call(call, *arguments) or call != "start"
        if works:
            self._call("close")
        with self._changed:
            self._closing = True
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _call(self, call: str, *arguments: Any) -> bool:
        try:
            getattr(self._tracker, call)(*arguments)
        except BaseException as error:  # whatever it is, training is not its place
            self.failed += 1
            reason = redact(str(error).strip().split("\n")[0])
            self._complain(f"failed in {call} ({type(error).__name__}: {reason})")
            return False
        return True

    def _complain(self, message: str) -> None:
        with self._changed:
            now = self._clock()
            if self._warned is not None and now - self._warned < QUIET_SECONDS:
                return
            self._warned = now
        counts = f"{self.failed} calls failed and {self.dropped} were dropped so far; training goes on"
        with contextlib.suppress(Exception):
            self._warn(f"{self._name} {message}; {counts}")
