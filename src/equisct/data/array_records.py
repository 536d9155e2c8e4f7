"""Pictures in one `.array_record` file: any of them can be read by its number, without the others.

Record 0 is a JSON header, records 1 to n are the pictures: uint8, row by row, channel last, as bytes. The container
compresses them (zstd) and keeps a checksum of every record.
"""

import contextlib
import importlib
import json
import os
import pathlib
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from .._base.files import as_path, atomic_write
from ._files import FilePath, existing, refused
from ._pictures import PIXELS
from .errors import DataError, describe
from .images import images_to_float
from .records import Flips, Indices

FORMAT, VERSION = "equisct pictures", 1
ACCEPTED = "an .array_record file as `equisct-data pack` writes it"
EXAMPLE = 'ArrayRecordSet("faces.array_record")'
WRITING = "group_size:1,zstd"
READING = "readahead_buffer_size:0,max_parallelism:0"
"""Random access: nothing is read ahead."""


class ArrayRecordSet:
    """The pictures of one `.array_record` file, read when they are asked for.

    Args:
        path: A file that `write_array_record` or `equisct-data pack` has written.

    Attributes:
        path: The file.
        name: What to call the set in logs.
        size: The number of pictures.
        shape: The shape (c, h, w) of one sample.

    Raises:
        DataError: It is not such a file, or it is damaged.
    """

    def __init__(self, path: FilePath):
        self.path = existing(path, ACCEPTED, EXAMPLE)
        self.name = self.path.name.split(".")[0]
        self._reader: Any = None
        self._lock = threading.Lock()
        with refused(self.path, ACCEPTED):
            (header,) = self._records([0])
            self.size, (height, width, channels) = _read_header(self.path, json.loads(header))
            held = self._reader.num_records() - 1
        if held != self.size:
            raise DataError(self.path, f"{held:,} pictures", f"{self.size:,}, as its header says")
        self.shape = channels, height, width

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def take(self, indices: Indices, flip: Flips = None) -> Float32[np.ndarray, "batch c h w"]:
        """The samples at `indices`, in [-1, 1], each mirrored left to right where `flip` is true.

        Raises:
            DataError: A record is damaged.
            IndexError: There is no such sample.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= self.size):
            raise IndexError(f"indices: expected 0 to {self.size - 1}, found {indices.min()} to {indices.max()}")
        with refused(self.path, ACCEPTED, "the file is damaged; pack it again"):
            records = self._records([int(index) + 1 for index in indices])
        channels, height, width = self.shape
        images = np.empty((len(records), height, width, channels), np.uint8)
        for image, index, record in zip(images, indices, records, strict=True):
            if len(record) != image.size:
                raise DataError(f"{self.path}: picture {index}", f"{len(record):,} bytes", f"{image.size:,} bytes")
            image[:] = np.frombuffer(record, np.uint8).reshape(image.shape)
        if flip is not None:
            images[flip] = images[flip][:, :, ::-1]
        return images_to_float(images)

    def _records(self, positions: list[int]) -> list[bytes]:
        """Records by position; one reader per process, used by one thread at a time."""
        with self._lock:
            if self._reader is None:
                self._reader = _module().ArrayRecordReader(os.fspath(self.path), READING)
                if not self._reader.ok():
                    raise DataError(self.path, "a file without the end of an array_record file", ACCEPTED)
            return self._reader.read(positions)


def write_array_record(path: FilePath, images: Iterable[UInt8[np.ndarray, "n h w c"]], *, count: int) -> None:
    """Writes a new file, whole or not at all.

    Args:
        path: Where; nothing may be there yet.
        images: Pictures of one shape, uint8, channel last, in pieces of any length.
        count: How many they are together, at least 1.

    Raises:
        DataError: Something is there already, or the pictures are not so.
    """
    place = as_path(path)
    if place.exists():
        raise DataError(place, "a file that is there already", "a new name")
    atomic_write(place, lambda part: _write(part, images, count))


def _write(part: pathlib.Path, images: Iterable[np.ndarray], count: int) -> None:
    shape, written = None, 0
    with contextlib.closing(_module().ArrayRecordWriter(os.fspath(part), WRITING)) as writer:
        for piece in images:
            shape = shape or piece.shape[1:]
            if piece.dtype != np.uint8 or piece.ndim != 4 or piece.shape[3] not in (1, 3) or piece.shape[1:] != shape:
                expected = "uint8 arrays (n, h, w, c) of one shape, with c = 1 or 3"
                raise DataError("images", f"a {describe(piece)}", expected)
            if not written:
                header = {"format": FORMAT, "version": VERSION, "count": count, "shape": list(shape)}
                writer.write(json.dumps(header).encode())
            for image in piece:
                writer.write(image.tobytes())
            written += len(piece)
    if written != count or not count:
        raise DataError("images", f"{written:,} pictures", f"count = {max(count, 1):,} of them")


def _read_header(path: pathlib.Path, header: object) -> tuple[int, tuple[int, int, int]]:
    """Count and shape (h, w, c), if they make sense."""
    if not isinstance(header, dict) or (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise DataError(path, "a header of another format or version", f"{FORMAT!r}, version {VERSION}")
    count: Any = header.get("count")
    shape: Any = header.get("shape")
    numbers = [count, *shape] if isinstance(shape, list) and len(shape) == 3 else [0]
    right = all(type(number) is int and number > 0 for number in numbers) and shape[2] in (1, 3)
    if not right or shape[0] * shape[1] > PIXELS:
        raise DataError(path, f"count {str(count)[:40]} and shape {str(shape)[:40]}", "a count and a shape [h, w, c]")
    return count, (shape[0], shape[1], shape[2])


def _module() -> ModuleType:
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise DataError("array_record", "no package array-record", ACCEPTED, "pip install array-record") from error
