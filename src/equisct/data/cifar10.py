"""CIFAR-10 (Krizhevsky 2009) from its official *binary* files; the archive is read in place, never extracted.

The Python version of the data set is a set of pickles, which can run code, and is not read.
"""

import contextlib
import gzip
import hashlib
import io
import os
import pathlib
import tarfile
from collections.abc import Generator
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64, UInt8

from ._files import FilePath, Readable, existing, printable, read_exactly, refused
from ._foreign import TAR
from .errors import DataError
from .records import ImageSet

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"

RECORDS = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32
"""One label byte, then the red, the green and the blue plane, row by row."""

UNPACKED_BYTES = 200_000_000
"""More than the official archive holds (six files of 30,730,000 bytes and two pages of text)."""

MEMBERS = 100
"""More than a good archive lists."""

DIGESTS = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""SHA-256 of each official file: of the contents, so that an archive packed again is still good."""

ACCEPTED = f"""one of
  a directory with the official files data_batch_1.bin to data_batch_5.bin and test_batch.bin
  a directory with {FOLDER}/ or {ARCHIVE} in it
  the official archive {ARCHIVE} itself (nothing is extracted)"""
EXAMPLE = f'load_cifar10("{ARCHIVE}")'
Streams: TypeAlias = Generator[tuple[str, Readable], None, None]
USE_BINARY = f"the Python version is made of pickles, which can run code: use the binary version, {ARCHIVE}"


def load_cifar10(path: FilePath, *, train: bool = True, verify: bool = True) -> ImageSet:
    """The 50,000 training or 10,000 test images of CIFAR-10, in the official order.

    Args:
        path: A directory with the six official `.bin` files, a directory with `cifar-10-batches-bin/` or
            `cifar-10-binary.tar.gz` in it, or that archive.
        train: Five training batches, or the test batch.
        verify: Compare each file's SHA-256 with the official one. Sizes and labels are always checked.

    Raises:
        DataError: Nothing usable is there, or a file is not the official one.
    """
    names = [name for name in DIGESTS if name.startswith("data") == train]
    place = existing(path, ACCEPTED, EXAMPLE)
    images = np.empty((RECORDS * len(names), 32, 32, 3), np.uint8)
    labels = np.empty(RECORDS * len(names), np.int64)
    with refused(place, ACCEPTED, takes=TAR), contextlib.closing(_streams(place, names)) as streams:
        for name, stream in streams:
            content = read_exactly(stream, RECORDS * RECORD_BYTES, f"{place}: {name}")
            if verify and hashlib.sha256(content).hexdigest() != DIGESTS[name]:
                hint = "the file is damaged; load_cifar10(path, verify=False) reads a version changed on purpose"
                raise DataError(f"{place}: {name}", "another SHA-256", DIGESTS[name], hint)
            part = slice(names.index(name) * RECORDS, (names.index(name) + 1) * RECORDS)
            images[part], labels[part] = _decode(content, f"{place}: {name}")
    return ImageSet(images, "cifar10-train" if train else "cifar10-test", labels)


def _decode(content: bytes, where: str) -> tuple[UInt8[np.ndarray, "n 32 32 3"], Int64[np.ndarray, " n"]]:
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(where, f"label {labels[first]} in record {first}", "labels 0 to 9", "this is not CIFAR-10")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _streams(place: pathlib.Path, names: list[str]) -> Streams:
    """Each named file once, open for reading, in the order they lie."""
    for folder in (place, place / FOLDER):
        if (folder / names[0]).is_file():
            return _from_folder(folder, names)
    archive = place if place.is_file() else place / ARCHIVE
    if archive.is_file():
        return _from_archive(archive, names)
    raise _missing(place, sorted(os.listdir(place)), names)


def _from_folder(folder: pathlib.Path, names: list[str]) -> Streams:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise _missing(folder, sorted(os.listdir(folder)), missing)
    for name in names:
        with (folder / name).open("rb") as stream:
            yield name, stream


def _from_archive(archive: pathlib.Path, names: list[str]) -> Streams:
    """Members are known by their names alone; a link, a folder or a second file of that name is refused."""
    seen: list[str] = []
    with gzip.open(archive) as plain, tarfile.open(fileobj=_Limited(plain, archive), mode="r|", bufsize=2**20) as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix(f"{FOLDER}/")
            if name in names and name not in seen and member.isreg() and not member.issparse():
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file
                yield name, stream
            elif name in names:
                found = f"a second {name}" if name in seen else f"{name} as a link or something else"
                raise DataError(archive, found, "each file once, as a regular file", "this is not the official archive")
            seen.append(name)
            if len(seen) > MEMBERS:
                raise DataError(archive, f"more than {MEMBERS} members", f"the official {ARCHIVE}, which has 9")
    if missing := [name for name in names if name not in seen]:
        raise _missing(archive, seen, missing)


def _missing(place: pathlib.Path, present: list[str], missing: list[str]) -> DataError:
    python = any(name.startswith((PYTHON_FOLDER, PYTHON_ARCHIVE)) or name == "data_batch_1" for name in present)
    hint = USE_BINARY if python else f"for example {EXAMPLE}; `equisct-train digits` needs no files"
    return DataError(place, f"no {missing[0]}, but {printable(present)}", ACCEPTED, hint)


class _Limited(io.RawIOBase):
    """A stream that may not go past `UNPACKED_BYTES`: a small archive can unpack to any size."""

    def __init__(self, stream: Readable, where: pathlib.Path):
        self.stream, self.where, self.left = stream, where, UNPACKED_BYTES

    def read(self, size: int = -1, /) -> bytes:
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            hint = "this looks like a decompression bomb"
            raise DataError(self.where, f"more than {UNPACKED_BYTES:,} bytes unpacked", f"the official {ARCHIVE}", hint)
        return content
