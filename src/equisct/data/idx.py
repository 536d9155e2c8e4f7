"""MNIST, Fashion-MNIST and their like, from IDX files, gzipped or not.

An IDX file is a big-endian header (two zero bytes, the type 0x08 of uint8, the rank, one uint32 for each dimension)
followed by the numbers, row by row (LeCun, Cortes, Burges: the MNIST page).
"""

import contextlib
import gzip
import math
import os
import pathlib
import struct

import numpy as np

from ._files import FilePath, check_expansion, existing, printable, read_exactly, refused
from .errors import DataError
from .records import ImageSet

UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"

ACCEPTED = """one of
  a directory with train-images-idx3-ubyte and train-labels-idx1-ubyte, and the same of t10k for the test set
  one file of images
in the IDX format of MNIST; either may be gzipped (.gz)"""
EXAMPLE = 'load_idx("fashion-mnist")'


def load_idx(path: FilePath, *, train: bool = True) -> ImageSet:
    """The images and labels of an MNIST-like data set, or the images of one IDX file.

    Args:
        path: A directory with the four official file names, with or without `.gz`; or one file of images, which then
            has no labels.
        train: The training set, or the test set (t10k); a single file is read whatever this says.

    Raises:
        DataError: Nothing usable is there, or a file is damaged.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    if place.is_file():
        return ImageSet(_read(place, rank=3)[..., None], place.name.split(".")[0])
    split = "train" if train else "t10k"
    images = _read(_find(place, f"{split}-images-idx3-ubyte"), rank=3)
    labels_path = _find(place, f"{split}-labels-idx1-ubyte")
    labels = _read(labels_path, rank=1)
    if len(labels) != len(images):
        raise DataError(labels_path, f"{len(labels):,} labels", f"one for each of the {len(images):,} images")
    name = f"{place.resolve().name}-{'train' if train else 'test'}"
    return ImageSet(images[..., None], name, labels.astype(np.int64))


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    found = f"neither {name} nor {name}.gz, but {printable(sorted(os.listdir(folder)))}"
    raise DataError(folder, found, ACCEPTED, f"for example {EXAMPLE}; `equisct-train digits` needs no files")


def _read(path: pathlib.Path, rank: int) -> np.ndarray:
    """The uint8 array of that rank in one file."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(refused(path, f"an IDX file of uint8 numbers, rank {rank}", "download it again"))
        stream = stack.enter_context(path.open("rb"))
        if stream.read(2) == GZIP_MAGIC:
            stream = stack.enter_context(gzip.open(path))
        else:
            stream.seek(0)
        magic = stream.read(4)
        if magic != bytes([0, 0, UINT8, rank]):
            kind = "images" if rank == 3 else "labels"
            hint = "is this the file of labels?" if magic == bytes([0, 0, UINT8, 1]) else "is this an IDX file?"
            expected = f"00 00 08 {rank:02x} (IDX, uint8, rank {rank}: {kind})"
            raise DataError(path, f"a file that begins with {magic.hex(' ') or 'nothing'}", expected, hint)
        shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
        check_expansion(str(path), path.stat().st_size, math.prod(shape))
        content = read_exactly(stream, math.prod(shape), f"{path} after its header for shape {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape)
