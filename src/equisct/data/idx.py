"""MNIST, Fashion-MNIST and their like, from IDX files, gzipped or not.

An IDX file is a big-endian header (two zero bytes, the type 0x08 of uint8, the rank, one uint32 for each dimension)
followed by the numbers, row by row (LeCun, Cortes, Burges: the MNIST page).
"""

import contextlib
import gzip
import math
import os
import pathlib
import re
import struct

import numpy as np

from ._files import FilePath, check_expansion, existing, printable, read_exactly, refused
from ._foreign import GZIP
from .errors import DataError
from .records import ImageSet

UINT8 = 0x08

ACCEPTED = """one of
  a directory with train-images-idx3-ubyte and train-labels-idx1-ubyte, and the same of t10k for the test set
  a directory with one such directory raw/ or NAME/raw/ in it, as torchvision makes them
  one file of images
in the IDX format of MNIST; each may be gzipped (.gz), named with a dot (train-images.idx3-ubyte), or lie in a folder of
its own name"""
IMAGES = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")
"""Names of files of images."""

EXAMPLE = 'load_idx("fashion-mnist")'


def load_idx(path: FilePath, *, train: bool = True) -> ImageSet:
    """The images and labels of an MNIST-like data set, or the images of one IDX file.

    Args:
        path: A directory with the four official file names, with or without `.gz`, `-` or `.` before `idx`, in folders
            of their names or not; a directory with one such directory `raw` or `NAME/raw` below it (torchvision's);
            or one file of images, which then has no labels.
        train: The training set, or the test set (t10k); a single file is read whatever this says.

    Raises:
        DataError: Nothing usable is there, or a file is damaged.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    if place.is_file():
        return ImageSet(_read(place, rank=3)[..., None], place.name.split(".")[0])
    folder = idx_folder(place) or place
    split = "train" if train else "t10k"
    images = _read(_find(folder, f"{split}-images-idx3-ubyte"), rank=3)
    labels_path = _find(folder, f"{split}-labels-idx1-ubyte")
    labels = _read(labels_path, rank=1)
    if len(labels) != len(images):
        raise DataError(labels_path, f"{len(labels):,} labels", f"one for each of the {len(images):,} images")
    whole = folder.resolve()
    name = f"{(whole.parent if whole.name == 'raw' else whole).name}-{'train' if train else 'test'}"
    return ImageSet(images[..., None], name, labels.astype(np.int64))


def idx_folder(place: pathlib.Path) -> pathlib.Path | None:
    """The directory of IDX files that a directory is or, as torchvision lays them, holds; None if there is none.

    Raises:
        DataError: It holds several.
    """
    with os.scandir(place) as entries:
        found = {entry.name: os.path.isdir(entry) for entry in entries}  # a link in a circle is none
    if any(map(IMAGES.search, found)):
        return place
    below = [place / "raw", *(place / name / "raw" for name in sorted(found) if found[name])]
    raw = [folder for folder in below if folder.is_dir() and any(map(IMAGES.search, os.listdir(folder)))]
    if len(raw) > 1:
        names = printable([str(folder.relative_to(place)) for folder in raw])
        raise DataError(place, f"{len(raw)} data sets: {names}", "one data set", "give the folder of one of them")
    return raw[0] if raw else None


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file of that official name, or of one of the names that others give it."""
    dotted = name.replace("-idx", ".idx")
    for each in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        for candidate in (folder / each, folder / each.removesuffix(".gz") / each):
            if candidate.is_file():
                return candidate
    found = f"neither {name} nor {name}.gz, but {printable(sorted(os.listdir(folder)))}"
    hint = f"for example {EXAMPLE}; `equisct-train digits` needs no files"
    if others := [other for other in sorted(os.listdir(folder)) if IMAGES.search(other)]:
        hint = f"one file of images can be read by itself: {ascii(others[0])}"
    raise DataError(folder, found, ACCEPTED, hint)


def _read(path: pathlib.Path, rank: int) -> np.ndarray:
    """The uint8 array of that rank in one file."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(refused(path, f"an IDX file of uint8 numbers, rank {rank}", "download it again"))
        stream = stack.enter_context(path.open("rb"))
        if stream.read(2) == GZIP:
            stream = stack.enter_context(gzip.open(path))
        else:
            stream.seek(0)
        magic = stream.read(4)
        if magic != bytes([0, 0, UINT8, rank]):
            kind = "images" if rank == 3 else "labels"
            hint = "is this the file of labels?" if magic == bytes([0, 0, UINT8, 1]) else "is this an IDX file?"
            found = f"a file that begins with {magic.hex(' ') or 'nothing'}"
            expected = f"00 00 08 {rank:02x} (IDX, uint8, rank {rank}: {kind})"
            raise DataError(path, found, expected, hint)
        shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
        check_expansion(str(path), path.stat().st_size, math.prod(shape), "unpack it with `gunzip`")
        content = read_exactly(stream, math.prod(shape), f"{path} after its header for shape {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape)
