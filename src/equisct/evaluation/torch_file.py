"""Arrays out of a PyTorch checkpoint, without PyTorch and without executing anything in it.

A checkpoint is a program, for a machine of Python's that can call any function. Here is a machine of our own, which
knows the instructions of tensors and three kinds of names: dictionaries, the tensors' rebuilding, and the storages of
numbers; everything else is refused.
"""

import hashlib
import io
import os
import pathlib
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

T = TypeVar("T")

_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}

_MAGIC = 0x1950A86A20F9469CFC6C
"""First number in a checkpoint of PyTorch before 1.6."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError,
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


def _rebuild(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object) -> _Tensor:
    del rest  # whether it needs a gradient, and hooks
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_KNOWN: dict[str, Any] = {
    "collections OrderedDict": lambda *pairs: dict(*pairs),
    "torch._utils _rebuild_tensor_v2": _rebuild,
    **{f"torch {name}": _Kind(dtype) for name, dtype in _STORAGES.items()},
}
"""All that a file of weights may name."""


def _storage(
    tag: object, kind: object, key: object, device: object, count: Any, *view: object
) -> tuple[str, _Kind, int]:
    del device, view
    if tag != "storage" or not isinstance(kind, _Kind):
        raise ValueError(f"a storage of the kind {tag!r}")
    return str(key), kind, int(count)


def _read(stream: io.BytesIO) -> Any:
    """The value that the next instructions of the file describe, by a machine that knows those of tensors alone."""
    stack: list[Any] = []
    marks: list[int] = []
    memory: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for opcode, found, _ in pickletools.genops(stream):
        argument: Any = found
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINFLOAT":
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case "SETITEMS":
                flat = since_mark()
                stack[-1].update(zip(flat[::2], flat[1::2], strict=True))
            case "APPEND":
                value = stack.pop()
                stack[-1].append(value)
            case "APPENDS":
                values = since_mark()
                stack[-1].extend(values)
            case "BINPUT" | "LONG_BINPUT":
                memory[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memory[argument])
            case "GLOBAL":
                if argument not in _KNOWN:
                    raise ValueError(f"{argument.replace(' ', '.')}, which no file of weights needs")
                stack.append(_KNOWN[argument])
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if function not in (_KNOWN["collections OrderedDict"], _rebuild):
                    raise ValueError("a call of something that is no function of tensors")
                stack.append(function(*arguments))
            case "BUILD":
                stack.pop()  # attributes of a dictionary, such as its version: nothing that is needed
            case "BINPERSID":
                stack.append(_storage(*stack.pop()))
            case other:
                raise ValueError(f"the instruction {other}, which no file of weights needs")
    raise ValueError("no end")


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The named arrays of a checkpoint that is a dictionary of tensors, of any version of PyTorch.

    Raises:
        ValueError: if it is none, or asks for something else to be run.
    """
    place = pathlib.Path(path)
    try:
        if place.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        found, storages = _from_zip(place) if zipfile.is_zipfile(place) else _from_programs(place.read_bytes())
        return {str(name): _tensor(name, value).array(storages) for name, value in found.items()}
    except _DAMAGE as error:
        raise ValueError(f"weights: expected a PyTorch checkpoint of named tensors, found {place} ({error})") from None


def _tensor(name: object, value: object) -> _Tensor:
    if not isinstance(value, _Tensor):
        raise ValueError(f"{name!r}: a {type(value).__name__}")  # noqa: TRY004  (a wrong file, not a call)
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
        return _read(io.BytesIO(archive.read(index))), storages


def _from_programs(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Of PyTorch before 1.6: programs one after the other, then each storage behind its count."""
    stream = io.BytesIO(content)
    if _read(stream) != _MAGIC:
        raise ValueError("no checkpoint")
    for _ in ("protocol", "system"):
        _read(stream)
    found = _read(stream)
    sizes = {tensor.storage[0]: tensor.storage for tensor in found.values() if isinstance(tensor, _Tensor)}
    storages = {}
    for key in _read(stream):
        _, kind, count = sizes[str(key)]
        stored = int.from_bytes(stream.read(8), "little")
        storages[str(key)] = stream.read(max(stored, count) * kind.dtype.itemsize)
    return found, storages


def read_weights(place: pathlib.Path) -> dict[str, np.ndarray]:
    """The named arrays of a `.safetensors` file or a PyTorch checkpoint; nothing in it is executed.

    Raises:
        ValueError: if it holds something else.
    """
    if place.suffix != ".safetensors":
        return read_torch_file(place)
    try:
        return load_file(place)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: expected a safetensors file ({error})") from None


def built_from_file(
    path: str | os.PathLike[str], what: str, build: Callable[[dict[str, np.ndarray]], T]
) -> tuple[T, str]:
    """What `build` makes of the arrays in a file of `what`, and the SHA-256 of the file.

    Raises:
        ValueError: if the file is missing or holds something else; with its hash.
    """
    place = pathlib.Path(path)
    if not place.is_file():
        raise ValueError(f"weights: expected the file of {what}, found nothing at {place}")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    try:
        return build(read_weights(place)), digest
    except ValueError as error:
        raise ValueError(f"{error}; the SHA-256 of {place} is {digest}") from None


def named_array(arrays: Mapping[str, np.ndarray], name: str, dimensions: int) -> np.ndarray:
    """One of them, as float32.

    Raises:
        ValueError: if there is none of that name and number of dimensions.
    """
    if name not in arrays or arrays[name].ndim != dimensions:
        found = arrays[name].shape if name in arrays else "none"
        raise ValueError(f"weights: expected {name} of {dimensions} dimensions, found {found}")
    return arrays[name].astype(np.float32)
