"""Rows in a text file, one JSON object per line: append-only, repaired and rewound when a run goes on.

A row is written by one call, so that a kill leaves at most the last line torn. Numbers that are not finite become null.
"""

import datetime
import errno
import io
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..._base.files import atomic_write
from .protocol import Values, plain
from .redaction import redact


class JsonLines:
    """A tracker that writes `{"step": ..., **values}` into `folder/filename`; pictures are not kept.

    `start` drops a torn last line and the rows of later steps (at step 0: every row); the lines kept stay as they were,
    byte for byte. `flush` syncs to the disk, so that no checkpoint is ever newer than its rows.

    Raises:
        ValueError: unless `filename` is the name of a file, without folders.
        OSError: when a row cannot be written whole; what was written of it is taken back.
    """

    def __init__(self, filename: str) -> None:
        if pathlib.PurePath(filename).name != filename:
            raise ValueError(f"filename: expected a name without folders, found {filename!r}")
        self._filename = filename
        self._file: io.FileIO | None = None

    def start(self, folder: pathlib.Path, config: Mapping[str, Any], step: int) -> None:
        """Repairs and rewinds the file, and opens it."""
        path = folder / self._filename
        _keep(path, lambda row: isinstance(row.get("step"), int) and step > 0 and row["step"] <= step)
        self._file = io.FileIO(path, "a")

    def log(self, step: int, values: Values) -> None:
        """Appends one row."""
        _append(self._opened(), {"step": step, **values})

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Syncs the file to the disk."""
        os.fsync(self._opened().fileno())

    def close(self) -> None:
        """Closes the file; harmless if it is not open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> io.FileIO:
        if self._file is None:
            raise ValueError(f"{self._filename}: expected start() to come first, found it not open")
        return self._file


class Events:
    """What happened to a run and when (start, save, restore, warning...): a file that is never rewound.

    Args:
        path: the file, such as `folder / "events.jsonl"`; a torn last line is dropped.
        clock: seconds since 1970; for tests.
    """

    def __init__(self, path: pathlib.Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        _keep(path, lambda row: True)

    def append(self, kind: str, **fields: Any) -> None:
        """Appends `{"time": UTC, "kind": kind, **fields}`; secrets among the fields are blotted out."""
        now = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)
        written = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with io.FileIO(self._path, "a") as file:
            _append(file, {"time": written, "kind": kind, **redact(fields)})


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a file; a torn last line, which a run being written or killed may have, is left out.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if another line is no JSON object.
    """
    rows = [row for _, row in _lines(path)]
    if rows and rows[-1] is None:
        rows.pop()
    if None in rows:
        raise ValueError(f"{path.name}: expected a JSON object in each line, found line {rows.index(None) + 1} damaged")
    return [row for row in rows if row is not None]


def _lines(path: pathlib.Path) -> list[tuple[bytes, dict[str, Any] | None]]:
    """Every line with its row, None where it is no JSON object."""
    return [(line, _parse(line)) for line in path.read_bytes().split(b"\n") if line]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # also what is no UTF-8
        return None
    return row if isinstance(row, dict) else None


def _keep(path: pathlib.Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a file, if there is one and it must change, with the whole lines that are wanted."""
    if not path.exists():
        return
    lines = [line for line, row in _lines(path) if row is not None and wanted(row)]
    content = b"".join(line + b"\n" for line in lines)
    if content != path.read_bytes():
        atomic_write(path, content)


def _append(file: io.FileIO, row: Mapping[str, Any]) -> None:
    """Writes a row, by one call to the system: the file is not buffered."""
    line = json.dumps(plain(row), allow_nan=False).encode() + b"\n"
    end = file.seek(0, os.SEEK_END)
    written = None
    try:
        written = file.write(line)
    finally:
        if written != len(line):
            file.truncate(end)
    if written != len(line):
        raise OSError(errno.ENOSPC, f"expected to append {len(line)} bytes, wrote {written}; is the disk full?")
