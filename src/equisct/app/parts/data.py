"""From the data settings, or a path, to a data set and its loader; free of JAX, so that bad data is refused at once."""

import hashlib
import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from ...data import (
    ArrayRecordSet,
    DataError,
    Dataset,
    GrainLoader,
    ImageFolder,
    ImageSet,
    Loader,
    PairSet,
    VectorSet,
    load_cifar10,
    load_digits,
    load_idx,
    load_npz,
    load_pairs,
)
from ...data.cifar10 import ARCHIVE, FOLDER, PYTHON_FOLDER
from ..settings.config import Config
from ..settings.data import CIFAR10, IDX, ArrayRecord, Data, Digits, ImageFiles, Mixture, Npz, Pairs

LOOKED_AT = 256
"""Samples by which data that are not in memory are known again."""


def load_data(data: Data, *, seed: int) -> Dataset:
    """The training set.

    Raises:
        DataError: if the files are missing or not what they should be.
    """
    match data:
        case Digits():
            return load_digits()
        case CIFAR10():
            return load_cifar10(data.path)
        case IDX():
            return load_idx(data.path)
        case Npz():
            return load_npz(data.path, data.array)
        case ImageFiles():
            return ImageFolder(data.path, size=data.size, bad=data.bad, bad_limit=data.bad_limit, index=data.index)
        case ArrayRecord():
            return ArrayRecordSet(data.path)
        case Pairs():
            return load_pairs(data.path)
        case Mixture():
            return _draw(data, seed)


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Size, shape and SHA-256 of the samples of a data set, by which it is known again wherever it lies.

    Hashed are: in memory all numbers; of image files all files (those that an index knows are not read again); of other
    files `LOOKED_AT` evenly spread samples, the first and the last among them, so that a change in others is not seen.
    """
    match dataset:
        case ImageSet():
            arrays = [dataset.images]
        case VectorSet():
            arrays = [dataset.points]
        case PairSet():
            arrays = [dataset.z, dataset.samples]
        case ImageFolder():
            return _as_note(dataset, dataset.digest)
        case _:
            spread = np.unique(np.linspace(0, dataset.size - 1, LOOKED_AT).round().astype(np.int64))
            arrays = (dataset.take(spread[k : k + 1]) for k in range(len(spread)))
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return _as_note(dataset, digest.hexdigest())


def _as_note(dataset: Dataset, digest: str) -> dict[str, Any]:
    return {"size": dataset.size, "shape": list(dataset.shape), "sha256": digest}


def open_loader(
    dataset: Dataset, config: Config, *, start: int = 0, process: int = 0, processes: int = 1
) -> Loader | GrainLoader:
    """The batches of a run from update `start` on, to be closed at its end: read ahead if the data lies in files.

    Raises:
        ValueError: if the settings do not fit the data.
    """
    data, run = config.data, config.run
    flip, workers = getattr(data, "flip", False), getattr(data, "workers", 0)
    place = {"start": start, "process": process, "processes": processes}
    if workers or isinstance(dataset, ImageFolder | ArrayRecordSet):
        return GrainLoader(dataset, run.batch, seed=run.seed, flip=flip, workers=workers, **place)
    return Loader(dataset, run.batch, seed=run.seed, flip=flip, **place)


def rotated_modes(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """The modes on the line and the rotation matrix of a mixture, float64."""
    angle = math.radians(mixture.angle)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.linspace(-1, 1, mixture.modes), rotation


def _draw(mixture: Mixture, seed: int) -> VectorSet:
    """Independent samples of the rotated product mixture."""
    generator = np.random.default_rng([seed, 2024])
    modes, rotation = rotated_modes(mixture)
    y = generator.choice(modes, (mixture.samples, 2)) + mixture.std * generator.normal(size=(mixture.samples, 2))
    return VectorSet((y @ rotation.T).astype(np.float32), name="mixture")


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


def open_data(path: pathlib.Path, **images: Any) -> Dataset:
    """The data set at a path, of whatever kind it is; `images` are settings of `ImageFiles`, left out for other kinds.

    Raises:
        DataError: if nothing usable is there.
    """
    kind = detect(path)
    return load_data(kind(path, **(images if kind is ImageFiles else {})), seed=0)
