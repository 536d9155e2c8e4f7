"""From a path to the data set that lies there, of whatever kind it is; free of JAX."""

import pathlib
import zipfile
from typing import Literal

from ...data import DataError, Dataset
from ...data.cifar10 import ARCHIVE, FOLDER, PYTHON_FOLDER
from ..settings.data import CIFAR10, IDX, ArrayRecord, ImageFiles, Npz
from .source import load_data


def detect(path: pathlib.Path) -> type[CIFAR10 | IDX | Npz | ImageFiles | ArrayRecord]:
    """The kind of data at a path, told by names and first bytes; what is nothing else is image files.

    Raises:
        DataError: if nothing is there.
    """
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if names & {FOLDER, ARCHIVE, PYTHON_FOLDER, "data_batch_1.bin", "data_batch_1"}:
            return CIFAR10
        idx = {f"{split}-images-idx3-ubyte{end}" for split in ("train", "t10k") for end in ("", ".gz")}
        return IDX if names & idx else ImageFiles
    if not path.is_file():
        raise DataError(path, "nothing at this path", "a folder or a file of data")
    with path.open("rb") as stream:
        start = stream.read(4)
    if path.suffix == ".array_record":
        return ArrayRecord
    if path.name.endswith((".tar.gz", ".tgz")):
        return CIFAR10
    if start[:2] == b"\x1f\x8b" or start[:3] == b"\0\0\x08":
        return IDX
    return Npz if path.suffix == ".npz" or _holds_arrays(path) else ImageFiles


def _holds_arrays(path: pathlib.Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def open_data(
    path: pathlib.Path,
    *,
    size: int | None = None,
    bad: Literal["error", "skip"] = "error",
    bad_limit: float = 0.01,
    index: pathlib.Path | None = None,
) -> Dataset:
    """The data set at a path, of whatever kind it is; all but the path is for image files, as in `ImageFiles`.

    Raises:
        DataError: if nothing usable is there.
    """
    kind = detect(path)
    if kind is ImageFiles:
        return load_data(ImageFiles(path, size=size, bad=bad, bad_limit=bad_limit, index=index), seed=0)
    return load_data(kind(path), seed=0)
