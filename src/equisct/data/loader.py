"""Batches as a function of (seed, step): nothing to save, nothing to restore, the same on any number of hosts.

Sample number `g = step batch + i` belongs to epoch `g // size`. Every epoch is a full permutation of the data set, and
batches run across epochs, so that no sample is left out or drawn twice. The permutation is the stable order of 64-bit
words of the Philox counter generator (Salmon et al. 2011), with key `seed` and a counter that holds the epoch; NumPy
keeps those words, unlike its `permutation`, the same in all versions.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from .._base.batch import as_example
from .errors import DataError, describe
from .images import check_scale
from .records import Dataset

_ORDER, _FLIP = 0, 1


def epoch_permutation(seed: int, epoch: int, size: int) -> Int64[np.ndarray, " size"]:
    """The order in which one epoch visits the samples 0 to `size - 1`."""
    return np.argsort(_words(seed, _ORDER, epoch, size), kind="stable")


_remembered = functools.lru_cache(maxsize=4)(epoch_permutation)
"""The orders of all loaders of the process, of which a batch needs one or two."""


def batch_indices(step: int, *, batch: int, size: int, seed: int) -> Int64[np.ndarray, " batch"]:
    """The samples of the (global) batch of one step."""
    return _window(step * batch, (step + 1) * batch, size, seed)


def batch_flips(step: int, *, batch: int, seed: int) -> Bool[np.ndarray, " batch"]:
    """Which items of the (global) batch of one step are mirrored: each with probability 1/2."""
    return _words(seed, _FLIP, step, batch) >> np.uint64(63) == 1


class Loader:
    """The batches of a data set: `loader.batch(step)`, or endlessly `for x in loader`.

    Args:
        dataset: The samples.
        batch: The number of samples in one batch over all processes; at most the data set.
        seed: Chooses the order and the flips; 0 to 2^64 - 1.
        flip: Mirror every image left to right with probability 1/2.
        start: The step at which iteration begins.
        process: The rank of this process, which gets rows `process batch / processes` onward of every batch.
        processes: How many processes share a batch evenly.

    Raises:
        DataError: The data set has fewer samples than a batch, or cannot be mirrored.
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
    ):
        if isinstance(dataset, np.ndarray):  # it has the three members too, of other meaning
            hint = "ImageSet(images, name) or VectorSet(points, name)"
            raise DataError("dataset", f"a {describe(dataset)}", "a data set", hint)
        for name, value, least in (("batch", batch, 1), ("start", start, 0), ("processes", processes, 1)):
            check_at_least(name, value, least)
        _check_seed(seed)
        if not 0 <= process < processes:
            raise ValueError(f"process: expected 0 to {processes - 1}, found {process}")
        if batch % processes:
            raise ValueError(f"batch: expected a multiple of processes = {processes}, found {batch}")
        if batch > dataset.size:
            found = f"fewer samples than a batch: {dataset.size}"
            raise DataError("batch", found, f"at least {batch}", "choose a smaller batch")
        if flip and len(dataset.shape) != 3:
            found = f"samples of shape {dataset.shape}"
            raise DataError("flip", found, "images (c, h, w)", "only images can be mirrored")
        self.dataset = dataset
        self.start = start
        self._batch, self._seed, self._flip = batch, seed, flip
        self._rows = slice(process * batch // processes, (process + 1) * batch // processes)

    def indices(self, step: int) -> Int64[np.ndarray, " rows"]:
        """The samples of this process at one step."""
        check_at_least("step", step, 0)
        first = step * self._batch
        return _window(first + self._rows.start, first + self._rows.stop, self.dataset.size, self._seed)

    def batch(self, step: int) -> Any:
        """The batch of this process at one step, as the data set gives it.

        Raises:
            DataError: It holds images whose floats are pixels of 0 to 255.
        """
        flips = batch_flips(step, batch=self._batch, seed=self._seed)[self._rows] if self._flip else None
        batch = self.dataset.take(self.indices(step), flips)
        if isinstance(x := as_example(batch).x, np.ndarray):
            check_scale("dataset", x)
        return batch

    def since(self, step: int) -> Iterator[Any]:
        """The batches of one step, the next, and so on."""
        return map(self.batch, itertools.count(step))

    def __iter__(self) -> Iterator[Any]:
        return self.since(self.start)

    def close(self) -> None:
        """Nothing: there are no threads or processes to end; `GrainLoader` has them."""


def _window(start: int, stop: int, size: int, seed: int) -> Int64[np.ndarray, " {stop-start}"]:
    """Samples number `start` to `stop - 1` of the endless row of epochs."""
    epochs = range(start // size, (stop - 1) // size + 1)
    return np.concatenate([_remembered(seed, e, size)[max(start - e * size, 0) : stop - e * size] for e in epochs])


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises `ValueError` for less."""
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, found {value}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected an integer in [0, 2^64), found {seed}")


def _words(seed: int, purpose: int, index: int, size: int) -> UInt64[np.ndarray, " size"]:
    """Random 64-bit words, independent for every (seed, purpose, index)."""
    _check_seed(seed)
    key = np.array([seed, 0], np.uint64)
    counter = np.array([0, 0, index, purpose], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(size)
