"""From the data settings, or a path, to a data set and its loader; free of JAX, so that bad data is refused at once."""

import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from ..._base.batch import as_example
from ...data import (
    ArrayRecordSet,
    DataError,
    Dataset,
    GrainLoader,
    ImageFolder,
    Loader,
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


def some_of(dataset: Dataset, n: int) -> np.ndarray:
    """Samples of the data to look at, `(n, *shape)`, always the same, from everywhere; all where there are fewer."""
    chosen = np.random.default_rng(0).choice(dataset.size, min(n, dataset.size), replace=False)
    return as_example(dataset.take(chosen)).x


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
