"""From the data settings to a data set, checked, and its loader; free of JAX, so that bad data is refused at once."""

import math

import numpy as np

from ...data import (
    ArrayRecordSet,
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
