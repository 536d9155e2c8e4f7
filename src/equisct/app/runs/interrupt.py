"""Being told to stop: SIGTERM, SIGINT and SIGUSR1 ask for a save and an end; a second signal ends at once.

The signal is noted by C code and a thread, because Python's own handlers wait while the main thread is in a long call
(a compilation, a device). With several processes JAX itself listens to SIGTERM, and finds a step at which all can stop;
the others are passed on as that one.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from .exits import FORCED


class Interrupted(BaseException):
    """Raised where a run was told to stop; everything worth keeping has been saved."""


class Interruption:
    """Whether this process has been told to stop."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def told(self, step: int | None = None) -> bool:
        """Whether to stop now; with several processes the same answer in all, which costs nothing until a signal comes.

        Args:
            step: the update that all processes are at; None where only this process is concerned.
        """
        if jax.process_count() == 1:
            return self._told.is_set()
        return step is not None and multihost_utils.reached_preemption_sync_point(step)

    def check(self) -> None:
        """Raises `Interrupted` if this process has been told to stop."""
        if self.told():
            raise Interrupted

    def explains(self) -> bool:
        """Whether an error that was just met may come of a signal, as where it went to a compiler's processes too."""
        return jax.process_count() == 1 and self._told.wait(1.0)  # it takes a moment until a thread has noted it

    def note(self) -> None:
        """Takes note of one signal."""
        if self._told.is_set():
            os._exit(FORCED)  # the second: nothing half-written is ever taken for whole
        self._told.set()
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # which JAX listens to


@contextlib.contextmanager
def listening() -> Iterator[Interruption]:
    """Inside, signals are noted instead of ending the process; in another thread than the main one none is heard."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield interruption
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while byte := os.read(reader, 1):
            if byte[0] in signals:
                interruption.note()

    own = ["SIGTERM"] if jax.process_count() == 1 else []
    names = [*own, "SIGINT", "SIGUSR1"]
    signals = [getattr(signal, name) for name in names if name in dir(signal)]
    before = {each: signal.signal(each, lambda number, frame: None) for each in signals}
    old_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield interruption
    finally:
        signal.set_wakeup_fd(old_writer)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(writer)
        thread.join()
        os.close(reader)
