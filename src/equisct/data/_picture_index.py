"""What is known about each picture of a set, the file that keeps it, and what follows for one use of the set."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._base.files import as_path, atomic_write
from ._files import FilePath, refused
from ._picture_files import FolderFiles, ZipFiles
from ._pictures import PictureError, decode
from .errors import DataError

FORMAT, VERSION = "equisct picture index", 1
MEND = "delete it, or write it again with `equisct-data check`"


@dataclasses.dataclass(frozen=True)
class PictureEntry:
    """One file.

    Attributes:
        name: Its path in the folder or archive.
        size: Bytes.
        changed: Time of change of the file or the archive, in nanoseconds.
        sha256: Digest of its bytes, or nothing if they could not be read.
        shape: Height, width and channels (1 grey, 3 colour), or None if it cannot be used.
        reason: Why it cannot be used, or nothing.
    """

    name: str
    size: int
    changed: int
    sha256: str
    shape: tuple[int, int, int] | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """A set of pictures for one choice of size and channels.

    Attributes:
        shape: Channels, height and width of a sample; zeros if no picture can be used.
        good: Positions of the usable files, ascending.
        bad: Name and reason of every other.
    """

    shape: tuple[int, int, int]
    good: np.ndarray
    bad: tuple[tuple[str, str], ...]


def scan(files: FolderFiles | ZipFiles, known: Mapping[str, PictureEntry] | None = None) -> list[PictureEntry]:
    """Every file, in order; those `known` with the same size and time of change are believed, the others decoded."""
    return [_examine(files, name, (known or {}).get(name)) for name in files.names]


def _examine(files: FolderFiles | ZipFiles, name: str, known: PictureEntry | None) -> PictureEntry:
    size, changed, sha256 = 0, 0, ""
    try:
        size, changed = files.stamp(name)
        if known is not None and (known.size, known.changed) == (size, changed):
            return known
        content = files.read(name)
        sha256 = hashlib.sha256(content).hexdigest()
        picture = decode(content)
    except PictureError as error:
        return PictureEntry(name, size, changed, sha256, None, str(error))
    shape = (picture.height, picture.width, 1 if picture.mode == "L" else 3)
    return PictureEntry(name, size, changed, sha256, shape, "")


def survey(entries: Sequence[PictureEntry], size: int | None = None, channels: int | None = None) -> Survey:
    """Which files are good, and the shape of a sample.

    Without `size` every picture must be of the size of the first; with it, at least so large. Without `channels` the
    set is colour if one picture is.
    """
    first = next((entry.shape for entry in entries if entry.shape), (0, 0, 0))
    wanted = (first[0], first[1]) if size is None else (size, size)
    reasons = [_reason(entry, wanted, size) for entry in entries]
    good = [i for i, reason in enumerate(reasons) if not reason]
    bad = [(entry.name, reason) for entry, reason in zip(entries, reasons, strict=True) if reason]
    own = max((shape[2] for i in good if (shape := entries[i].shape)), default=0)
    return Survey((channels or own, *wanted), np.array(good, np.int64), tuple(bad))


def _reason(entry: PictureEntry, wanted: tuple[int, int], size: int | None) -> str:
    if entry.shape is None:
        return entry.reason
    height, width, _ = entry.shape
    if size is None and (height, width) != wanted:
        return f"{width} x {height} pixels, where the first picture has {wanted[1]} x {wanted[0]}"
    if size is not None and min(height, width) < size:
        return f"{width} x {height} pixels, too small for {size} x {size}: pictures are reduced, never enlarged"
    return ""


def default_index(path: pathlib.Path) -> pathlib.Path:
    """Beside the data: `NAME.index.json`."""
    whole = path.resolve()
    return whole.with_name(whole.name + ".index.json")


def write_index(entries: Sequence[PictureEntry], path: FilePath) -> None:
    """Writes an index, whole or not at all."""
    rows = [[*dataclasses.astuple(entry)[:4], entry.shape and list(entry.shape), entry.reason] for entry in entries]
    lines = ",\n".join(json.dumps(row) for row in rows)
    atomic_write(as_path(path), f'{{"format": "{FORMAT}", "version": {VERSION}, "files": [\n{lines}\n]}}\n')


def read_index(path: FilePath) -> dict[str, PictureEntry]:
    """The entries of an index by name; raises `DataError` if it is none, or one of another version."""
    with refused(path, f"an index of version {VERSION}", MEND):
        content: Any = json.loads(as_path(path).read_text(encoding="ascii"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            found = f"{str(content['format'])[:40]!r}, version {str(content['version'])[:40]}"
            raise DataError(path, found, f"{FORMAT!r}, version {VERSION}", MEND)
        entries = [_entry(path, row) for row in content["files"]]
    return {entry.name: entry for entry in entries}


def _entry(path: FilePath, row: Any) -> PictureEntry:
    name, size, changed, sha256, shape, reason = row
    texts = all(type(value) is str for value in (name, sha256, reason))
    numbers = [size, changed] if shape is None else [size, changed, *shape]
    right = texts and all(type(number) is int and number >= 0 for number in numbers)
    if not right or (shape is None) != bool(reason) or (shape and (len(shape) != 3 or shape[2] not in (1, 3))):
        found = f"a wrong entry for {ascii(name)[:80]}"
        raise DataError(path, found, "entries as `equisct-data check` writes them", MEND)
    return PictureEntry(name, size, changed, sha256, shape and tuple(shape), reason)
