"""The batches of `Loader`, prepared ahead by threads and worker processes (Grain), for data that lies in files.

Element i of the Grain data set is the whole batch of step i, so order, position and sharding are those of `Loader`, and
the number of workers changes nothing but the speed.
"""

import importlib
import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from jaxtyping import Int64

from .errors import DataError
from .loader import Loader, check_at_least
from .records import Dataset

STEPS = 2**48
"""The length of the endless row of batches, which Grain wants to know."""

THREADS = 2
"""Threads that prepare batches, in this process or in each worker; decoding holds Python's lock most of the time."""

AHEAD = 2
"""Batches that each process keeps ready."""


class GrainLoader:
    """The batches of a data set as `Loader` gives them, bit for bit, prepared ahead.

    Close it when done: `close`, or `contextlib.closing(loader)`.

    The arguments are those of `Loader`, and one more.

    Args:
        dataset: The samples; with workers it is pickled, so it should hold paths rather than pixels.
        workers: Worker processes that read and decode; with 0, threads of this process do it.

    Attributes:
        dataset: The samples.
        start: The step at which iteration begins.

    Raises:
        DataError: As `Loader`; or Grain is not installed.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        *,
        seed: int,
        flip: bool = False,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
        workers: int = 0,
    ):
        self._loader = Loader(dataset, batch, seed=seed, flip=flip, start=start, process=process, processes=processes)
        check_at_least("workers", workers, 0)
        if importlib.util.find_spec("grain") is None:
            raise DataError("grain", "no package grain", "Grain, which reads ahead", "pip install grain")
        self.dataset = dataset
        self.start = start
        self._workers = workers
        self._begun: weakref.WeakSet[_Ahead] = weakref.WeakSet()

    def indices(self, step: int) -> Int64[np.ndarray, " rows"]:
        """The samples of this process at one step."""
        return self._loader.indices(step)

    def batch(self, step: int) -> Any:
        """The batch of this process at one step, read now."""
        return self._loader.batch(step)

    def __iter__(self) -> Iterator[Any]:
        return self.since(self.start)

    def since(self, step: int) -> Iterator[Any]:
        """The batches of one step, the next, and so on, read ahead."""
        grain = importlib.import_module("grain")  # imports JAX
        batches = grain.MapDataset.range(step, STEPS).map(self._loader.batch)
        pipeline = batches.to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD))
        if self._workers:
            if getattr(multiprocessing.current_process(), "_inheriting", False):
                sys.exit(1)  # a worker that imports a script without a main guard: the first process says so
            flags = importlib.import_module("absl.flags").FLAGS
            if not flags.is_parsed():
                flags.mark_as_parsed()  # Grain's workers ask for flags that only absl's own `app.run` would parse
            options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=AHEAD)
            pipeline = pipeline.mp_prefetch(options, worker_init_fn=_prepare_worker)
        ahead = _Ahead(iter(pipeline))
        self._begun.add(ahead)
        return ahead

    def close(self) -> None:
        """Ends the threads and worker processes of every iteration begun so far."""
        for ahead in list(self._begun):
            ahead.close()


class _Ahead:
    """One iteration; it ends when it is closed, forgotten, or at the end of Python, without a word."""

    def __init__(self, batches: Any):
        self._left = [batches]
        self.close = weakref.finalize(self, _close_all, self._left)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._left:
            raise ValueError("loader: expected an open one, found it closed")
        # What workers send lies in memory that they share, and that is taken back.
        keep = lambda leaf: leaf if type(leaf) is np.ndarray else np.array(leaf, subok=False)
        try:
            batch = next(self._left[0])
        except RuntimeError as error:
            if "terminated unexpectedly with exit code 1." not in str(error):
                raise
            found = "a worker process that ended as it began"
            hint = "each worker imports the script anew: put what starts the loader below `if __name__ == '__main__':`"
            raise DataError("loader: workers", found, "workers that go on, or workers=0", hint) from None
        return importlib.import_module("jax").tree.map(keep, batch)


def _close_all(left: list[Any]) -> None:
    """Grain complains at the end of Python about whatever is still there, closed or not."""
    while left:
        left.pop().close()


def _prepare_worker(worker: int, workers: int) -> None:
    """Signals are the parent's to handle; a worker ends when it is told to, or when its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
