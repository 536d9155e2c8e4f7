"""Arrays out of a PyTorch checkpoint, without PyTorch and without executing anything in it.

A checkpoint is a pickle, which may name any function to be called. Here only five names are known: those of a
dictionary, of the tensors' rebuilding, and of the storages of numbers; everything else is refused.
"""

import collections
import io
import os
import pathlib
import pickle
import zipfile
from typing import Any

import numpy as np

_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}

_MAGIC = 0x1950A86A20F9469CFC6C
"""First number in a checkpoint of PyTorch before 1.6."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, pickle.UnpicklingError,
           zipfile.BadZipFile)  # fmt: skip
"""What reading something else may raise."""

_LARGEST = 2**32
"""Bytes of a file that is read."""


class _Kind:
    """The type of a storage."""

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype).newbyteorder("<")


class _Tensor:
    """Where a tensor's numbers lie: filled in once all of the file is read."""

    def __init__(self, storage: tuple[str, _Kind, int], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, storages: dict[str, bytes]) -> np.ndarray:
        key, kind, count = self.storage
        numbers = np.frombuffer(storages[key], kind.dtype, count=count)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, kind.dtype)
        if self.offset < 0 or min((0, *self.strides)) < 0 or last >= count:
            raise ValueError(f"a tensor of shape {self.shape} beyond its storage of {count}")
        bytes_of = [s * kind.dtype.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, bytes_of).copy()


def _rebuild(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any) -> _Tensor:
    del rest  # whether it needs a gradient, and hooks
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Reader(pickle.Unpickler):
    """An unpickler that knows five names."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _STORAGES:
            return _Kind(_STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name}, which no file of weights needs")

    def persistent_load(self, pid: Any) -> tuple[str, _Kind, int]:
        """See `pickle.Unpickler`; `('storage', kind, key, device, count[, view])`."""
        tag, kind, key, _, count, *_ = pid
        if tag != "storage" or not isinstance(kind, _Kind):
            raise pickle.UnpicklingError(f"a storage of the kind {tag!r}")
        return str(key), kind, int(count)


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The named arrays of a checkpoint that is a dictionary of tensors, of any version of PyTorch.

    Raises:
        ValueError: if it is none, or asks for something else to be run.
    """
    place = pathlib.Path(path)
    try:
        if place.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        found, storages = _from_zip(place) if zipfile.is_zipfile(place) else _from_pickles(place.read_bytes())
        return {str(name): _tensor(name, value).array(storages) for name, value in found.items()}
    except _DAMAGE as error:
        raise ValueError(f"weights: expected a PyTorch checkpoint of named tensors, found {place} ({error})") from None


def _tensor(name: Any, value: Any) -> _Tensor:
    if not isinstance(value, _Tensor):
        raise ValueError(f"{name!r}: a {type(value).__name__}")  # noqa: TRY004
    return value


def _from_zip(place: pathlib.Path) -> tuple[Any, dict[str, bytes]]:
    """Of PyTorch 1.6 and later: `NAME/data.pkl` and `NAME/data/KEY`, stored as they are."""
    with zipfile.ZipFile(place) as archive:
        names = archive.namelist()
        if sum(info.file_size for info in archive.infolist()) > _LARGEST:
            raise ValueError(f"an archive that expands to more than {_LARGEST} bytes")
        (index,) = [name for name in names if name.endswith("/data.pkl")]
        root = index.removesuffix("data.pkl")
        storages = {
            name.removeprefix(f"{root}data/"): archive.read(name) for name in names if name.startswith(f"{root}data/")
        }
        return _Reader(io.BytesIO(archive.read(index))).load(), storages


def _from_pickles(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Of PyTorch before 1.6: pickles one after the other, then each storage behind its count."""
    stream = io.BytesIO(content)
    if _Reader(stream).load() != _MAGIC:
        raise ValueError("no checkpoint")
    for _ in ("protocol", "system"):
        _Reader(stream).load()
    found = _Reader(stream).load()
    sizes = {tensor.storage[0]: tensor.storage for tensor in found.values() if isinstance(tensor, _Tensor)}
    storages = {}
    for key in _Reader(stream).load():
        _, kind, count = sizes[str(key)]
        stored = int.from_bytes(stream.read(8), "little")
        storages[str(key)] = stream.read(max(stored, count) * kind.dtype.itemsize)
    return found, storages
