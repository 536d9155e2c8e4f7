"""Reading the files of strangers: nothing is unpickled, extracted or written, and no stated size is believed."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import IO, TypeAlias

from ._foreign import beginning, recognised
from .errors import DataError

FilePath: TypeAlias = str | os.PathLike[str]
Readable: TypeAlias = IO[bytes] | io.BufferedIOBase

FREE_BYTES = 2**30
"""What may be unpacked at any ratio."""

EXPANSION = 100
"""How many times its packed size a file larger than `FREE_BYTES` may have; real pictures stay below 10."""


@contextlib.contextmanager
def refused(where: FilePath, expected: str, hint: str = "", *, takes: str = "") -> Iterator[None]:
    """Turns every failure inside the block, which should hold little but a standard reader, into a `DataError`.

    It says what the file is, if that is known and not the kind that the reader `takes`.
    """
    try:
        yield
    except Exception as error:  # on hostile files the standard readers raise nearly anything
        place = pathlib.Path(where)
        told = recognised(beginning(place)) if place.is_file() else None
        told = None if told and told[0] == takes else told
        found = f"a file that cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        if isinstance(error, DataError):
            if not told:
                raise
            where, found, expected, _ = error.args
        if told:
            found, hint = f"{told[0]}: {found}", told[1]
        raise DataError(where, found, expected, hint) from error


def existing(path: FilePath, accepted: str, example: str) -> pathlib.Path:
    """The path; unless a file or a directory is there, raises `DataError` that says what is accepted."""
    place = pathlib.Path(path)
    if not (place.is_file() or place.is_dir()):
        found = "something that is neither a file nor a directory" if place.exists() else "nothing at this path"
        raise DataError(place, found, accepted, f"for example {example}; `equisct-train digits` needs no files")
    return place


def read_exactly(stream: Readable, size: int, where: str) -> bytes:
    """The rest of a file, `size` bytes, holding at most one more; `DataError` where it ends early, or goes on."""
    content = stream.read(size + 1)
    if len(content) != size:
        found = f"only {len(content):,} bytes" if len(content) < size else "more bytes"
        raise DataError(where, found, f"exactly {size:,} bytes", "the file is damaged or not what its name says")
    return content


def check_expansion(where: str, packed: int, unpacked: int, unpack: str) -> None:
    """Raises `DataError` if a small file claims to unpack to a very large one; `unpack` says how to do that oneself."""
    if unpacked > max(FREE_BYTES, EXPANSION * packed):
        found = f"{packed:,} bytes that claim to unpack to {unpacked:,}"
        expected = f"at most {EXPANSION} times the packed size, or {FREE_BYTES:,} bytes"
        raise DataError(where, found, expected, f"this looks like a decompression bomb; if you trust it, {unpack}")


def printable(names: list[str]) -> str:
    """Names from a stranger's file, for a message: quoted, escaped, the first eight."""
    shown = ", ".join(ascii(name[:40]) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"
