"""Arrays out of a PyTorch checkpoint, without PyTorch and without executing anything in it.

A checkpoint is a pickle: a program that can call any function. Here it may name dictionaries, the tensors' rebuilding
and the storages of numbers; everything else is refused.
"""

import collections
import hashlib
import io
import math
import os
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .._base.files import as_path

T = TypeVar("T")

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}

_MAGIC = 0x1950A86A20F9469CFC6C
"""First number in a checkpoint of PyTorch before 1.6."""

_LARGEST = 2**32
"""Bytes of a file that is read."""


class _Storage(NamedTuple):
    """Numbers that lie elsewhere in the file."""

    key: str
    kind: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage: filled in once all of the file is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, bytes]) -> np.ndarray:
        key, kind, size = self.storage
        numbers = np.frombuffer(storages[key], kind, count=size)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, kind)
        if min(self.offset, *self.strides, 0) < 0 or max(last + 1, math.prod(self.shape)) > size:
            raise ValueError(f"a tensor of shape {self.shape} beyond its storage of {size}")
        bytes_of = [s * numbers.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, bytes_of).copy()


class _Reader(pickle.Unpickler):
    """Python's own, which calls nothing but what is named here."""

    def find_class(self, module: str, name: str, /) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda *view: _Tensor(*view[:4])  # the rest: whether it needs a gradient, and hooks
            case "torch", _ if name in _STORAGES:
                return _STORAGES[name]  # words, not types, since a hostile file could change the state of those
        raise ValueError(f"{module}.{name}, which no file of weights needs")

    def persistent_load(self, pid: Any, /) -> _Storage:
        tag, kind, key, _, size, *_ = pid
        if tag != "storage" or kind not in _STORAGES.values():
            raise ValueError(f"a storage of the kind {tag!r}")
        return _Storage(str(key), kind, int(size))


def _read(stream: io.BytesIO) -> Any:
    """The value that the next program of the file describes; its instructions are looked through first."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name.startswith("EXT"):  # numbers for what other code registered: not asked of `find_class`
            raise ValueError(f"the instruction {opcode.name}, which no file of weights needs")
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > stream.tell():
            raise ValueError(f"place {argument} in a memory, for which Python would make a table of that length")
    stream.seek(start)
    return _Reader(stream).load()


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The named arrays of a dictionary of tensors, of any version of PyTorch; `ValueError` if the file is none."""
    place = as_path(path)
    try:
        if place.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        found, storages = _from_zip(place) if zipfile.is_zipfile(place) else _from_programs(place.read_bytes())
        for name, value in found.items():
            if not isinstance(value, _Tensor):
                raise ValueError(f"{name!r}: a {type(value).__name__}")  # noqa: TRY004  (a wrong file, not a call)
        return {str(name): tensor.array(storages) for name, tensor in found.items()}
    except Exception as error:  # on damaged or hostile files these raise nearly anything
        raise ValueError(f"weights: expected a PyTorch checkpoint of named tensors, found {place} ({error})") from None


def _from_zip(place: pathlib.Path) -> tuple[Any, dict[str, bytes]]:
    """Of PyTorch 1.6 and later: `NAME/data.pkl` and `NAME/data/KEY`, stored as they are."""
    with zipfile.ZipFile(place) as archive:
        names = archive.namelist()
        if sum(info.file_size for info in archive.infolist()) > _LARGEST:
            raise ValueError(f"an archive that expands to more than {_LARGEST} bytes")
        (index,) = [name for name in names if name.endswith("/data.pkl")]
        folder = f"{index.removesuffix('.pkl')}/"
        storages = {name.removeprefix(folder): archive.read(name) for name in names if name.startswith(folder)}
        return _read(io.BytesIO(archive.read(index))), storages


def _from_programs(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Of PyTorch before 1.6: programs one after the other, then each storage behind its count."""
    stream = io.BytesIO(content)
    if _read(stream) != _MAGIC:
        raise ValueError("no checkpoint")
    for _ in ("protocol", "system"):
        _read(stream)
    found = _read(stream)
    sizes = {tensor.storage.key: tensor.storage for tensor in found.values() if isinstance(tensor, _Tensor)}
    storages = {}
    for key in _read(stream):
        _, kind, count = sizes[str(key)]
        stored = int.from_bytes(stream.read(8), "little")
        storages[str(key)] = stream.read(max(stored, count) * np.dtype(kind).itemsize)
    return found, storages


def read_weights(place: pathlib.Path) -> dict[str, np.ndarray]:
    """The named arrays of a `.safetensors` file or a PyTorch checkpoint; raises `ValueError` for anything else."""
    if place.suffix != ".safetensors":
        return read_torch_file(place)
    try:
        return load_file(place)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: expected a safetensors file ({error})") from None


def built_from_file(
    path: str | os.PathLike[str], what: str, build: Callable[[dict[str, np.ndarray]], T]
) -> tuple[T, str]:
    """What `build` makes of the arrays in a file of `what`, and its SHA-256, which a `ValueError` for others says."""
    place = as_path(path)
    if not place.is_file():
        raise ValueError(f"weights: expected the file of {what}, found nothing at {place}")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    try:
        return build(read_weights(place)), digest
    except ValueError as error:
        raise ValueError(f"{error}; the SHA-256 of {place} is {digest}") from None


def named_array(arrays: Mapping[str, np.ndarray], name: str, dimensions: int) -> np.ndarray:
    """One of them, as float32; raises `ValueError` if there is none of that name and number of dimensions."""
    if name not in arrays or arrays[name].ndim != dimensions:
        found = arrays[name].shape if name in arrays else "none"
        raise ValueError(f"weights: expected {name} of {dimensions} dimensions, found {found}")
    return arrays[name].astype(np.float32)
