"""From the data settings, or a path, to a data set and its loader; free of JAX, so that bad data is refused at once."""

import contextlib
import dataclasses
import hashlib
import math
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._base.batch import as_example
from ...data import (
    ArrayRecordSet,
    ConditionalSet,
    DataError,
    Dataset,
    GrainLoader,
    ImageFolder,
    ImageSet,
    Loader,
    PairSet,
    VectorSet,
    load_cifar10,
    load_conditions,
    load_digits,
    load_idx,
    load_npz,
    load_pairs,
)
from ...data._foreign import GZIP, beginning, recognised
from ...data.cifar10 import ARCHIVE, FOLDER, PYTHON_ARCHIVE, PYTHON_FOLDER
from ...data.folder import count_others
from ...data.idx import idx_folder
from ..settings.config import Config
from ..settings.data import CIFAR10, IDX, ArrayRecord, Data, Digits, ImageFiles, Mixture, Npz, Pairs, Reading

ACCEPTED = "a folder or zip of pictures, or a file or folder of .npz, IDX, CIFAR-10 or .array_record"
FLAGS = {"key": "array", "size": "size", "bad": "bad", "bad_limit": "bad-limit"}
"""What the command line calls the arguments of readers that hints name."""

AS_IT_IS = Reading()

LOOKED_AT = 256
"""Samples by which data that are not in memory are known again."""


def load_data(data: Data, *, seed: int, prefix: str = "--data.") -> Dataset:
    """The training set; files that are left out of a set of pictures are counted aloud.

    Raises:
        DataError: if the files are missing or not what they should be; its hint names flags that begin with `prefix`.
    """
    with speaking_of_flags(prefix):
        dataset = _load(data, seed)
    if isinstance(dataset, ImageFolder):
        _note_what_is_left_out(dataset)
    return dataset


def _load(data: Data, seed: int) -> Dataset:
    asked, dataset = getattr(data, "condition", "none"), _load_samples(data, seed)
    if asked == "none":
        return dataset
    if asked == "vector":
        assert isinstance(data, Npz)
        return ConditionalSet(dataset, load_conditions(data.path))
    labels = getattr(dataset, "labels", None)
    if labels is None:
        expected = "labels, an integer >= 0 for the class of each sample, with --data.condition classes"
        raise DataError(getattr(data, "path", "data"), "samples alone", expected, "take --data.condition none")
    return ConditionalSet(dataset, labels)


def _load_samples(data: Data, seed: int) -> Dataset:
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
        case ConditionalSet():
            inner, rows = fingerprint(dataset.dataset), dataset.conditions
            digest = hashlib.sha256(f"{inner['sha256']} {rows.dtype.str} {rows.shape}".encode())
            digest.update(np.ascontiguousarray(rows).data)
            return _as_note(dataset, digest.hexdigest())
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


def some_of(dataset: Dataset, n: int) -> np.ndarray:
    """Samples of the data to look at, `(n, *shape)`, always the same, from everywhere; all where there are fewer.

    Of data with classes as many of each, class by class, where that can be.
    """
    chosen = np.random.default_rng(0).choice(dataset.size, min(n, dataset.size), replace=False)
    if isinstance(dataset, ConditionalSet) and dataset.classes and n % dataset.classes == 0:  # rows of one class
        mixed = np.random.default_rng(0).permutation(dataset.size)
        each = [mixed[dataset.conditions[mixed] == c] for c in range(dataset.classes)]
        if min(map(len, each)) >= n // dataset.classes:
            chosen = np.concatenate([rows[: n // dataset.classes] for rows in each])
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


def _note_what_is_left_out(dataset: ImageFolder) -> None:
    if dataset.bad:
        name, reason = dataset.bad[0]
        many = f"{len(dataset.bad):,} of {dataset.size:,} files that cannot be used"
        print(f"note: skipped {many}; the first is {ascii(name)}: {reason}", file=sys.stderr)
    if left := count_others(dataset.ignored, pictures=True):
        print(f"note: pictures of other kinds are not read: {left}", file=sys.stderr)


@contextlib.contextmanager
def speaking_of_flags(prefix: str) -> Iterator[None]:
    """Rewrites the hint of a `DataError`, which speaks of arguments in Python, for someone at the command line."""
    try:
        yield
    except DataError as error:
        where, found, expected, hint = error.args
        raise DataError(where, found, expected, in_flags(hint, prefix)) from error


def in_flags(hint: str, prefix: str) -> str:
    """`load_idx("a")` becomes `--data.path a`, and `key="b"` becomes `--data.array b`."""
    path = f"{prefix}path " if "." in prefix else ""  # the commands that look at data take the path by itself
    hint = re.sub(r'(?:load_\w+|ImageFolder|ArrayRecordSet)\("([^"]*)"\)', rf"{path}\1", hint)
    for name, flag in FLAGS.items():
        hint = re.sub(rf'\b{name}="?([\w.-]+)"?', rf"{prefix}{flag} \1", hint)
    return hint


def detect(path: pathlib.Path) -> type[CIFAR10 | IDX | Npz | ImageFiles | ArrayRecord]:
    """The kind of data at a path, told by names and first bytes; what is nothing else is image files.

    Raises:
        DataError: if nothing is there, or a file of a kind that no reader takes.
    """
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if names & {FOLDER, ARCHIVE, PYTHON_FOLDER, PYTHON_ARCHIVE, "data_batch_1.bin", "data_batch_1"}:
            return CIFAR10
        return IDX if idx_folder(path) else ImageFiles
    if not path.is_file():
        raise DataError(path, "nothing at this path", ACCEPTED)
    start = beginning(path)
    if path.name in (ARCHIVE, PYTHON_ARCHIVE) or start.removeprefix(b"./").startswith(b"cifar-10-batches-"):
        return CIFAR10
    if told := recognised(start):
        what, hint = told
        raise DataError(path, what, ACCEPTED, hint)
    if path.suffix == ".array_record":
        return ArrayRecord
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP
    if packed or start[:3] == b"\0\0\x08":
        return IDX
    return Npz if path.suffix == ".npz" or _holds_arrays(path) else ImageFiles


def _holds_arrays(path: pathlib.Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def open_data(path: pathlib.Path, reading: Reading = AS_IT_IS) -> Dataset:
    """The data set at a path, of whatever kind it is.

    Raises:
        DataError: if nothing usable is there.
        ValueError: if a setting is given that its kind does not have.
    """
    kind = detect(path)
    given = {
        field.name: value
        for field in dataclasses.fields(Reading)
        if (value := getattr(reading, field.name)) != field.default
    }
    known = {field.name for field in dataclasses.fields(kind)}
    for name in given.keys() - known:
        wanted = "an .npz file" if name == "array" else "a folder or zip of image files"
        raise ValueError(f"{name}: expected none of it but with {wanted}, found {given[name]} with {path}")
    return load_data(kind(path, **given), seed=0, prefix="--")
