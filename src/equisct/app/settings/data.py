"""What the command line can say about data, as plain frozen dataclasses; a docstring under a field is its help."""

import dataclasses
import pathlib
from typing import Literal

from ..._base.check import check_at_least, check_positive

Classes = Literal["none", "classes"]


@dataclasses.dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey; shipped in its wheel, nothing is downloaded."""

    condition: Classes = "none"
    """Tell the network the class of each image, its digit."""


@dataclasses.dataclass(frozen=True)
class CIFAR10:
    """CIFAR-10's 50,000 training images, 32x32 colour, from the official binary version."""

    path: pathlib.Path = pathlib.Path("cifar-10-batches-bin")
    """Folder with data_batch_1.bin to data_batch_5.bin, or the archive cifar-10-binary.tar.gz."""
    flip: bool = True
    """Mirror each image left to right with probability 1/2."""
    condition: Classes = "none"
    """Tell the network the class of each image."""


@dataclasses.dataclass(frozen=True)
class IDX:
    """Grey images in MNIST's IDX files (Fashion-MNIST and relatives)."""

    path: pathlib.Path = pathlib.Path("fashion-mnist")
    """Folder with train-images-idx3-ubyte[.gz], or one images file."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    condition: Classes = "none"
    """Tell the network the class of each image."""


@dataclasses.dataclass(frozen=True)
class Npz:
    """Arrays of your own: uint8 images (n, h, w, channels) or float32 vectors (n, d) in an .npz file."""

    path: pathlib.Path = pathlib.Path("images.npz")
    """The file; it is read without pickle."""
    array: str | None = None
    """Name of the array in the file; default images, else arr_0, else the only one beside
    labels and condition."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    condition: Literal["none", "classes", "vector"] = "none"
    """Tell the network the array labels of the file, integers (n,), or its array condition, float32 (n, d)."""


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """PNG, JPEG and WEBP files of your own in a folder, at any depth, or in a zip archive."""

    path: pathlib.Path = pathlib.Path("images")
    """The folder or archive."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    size: int | None = None
    """Side in pixels: the middle square of each image is reduced to it. Default: all images have the same size."""
    bad: Literal["error", "skip"] = "error"
    """What a file that cannot be used does: stop, or give its place to the next good one."""
    bad_limit: float = 0.01
    """Largest share of skipped files, 0 to 1."""
    index: pathlib.Path | None = None
    """Index of `equisct-data check`, which saves reading everything first. Default: PATH.index.json, if there."""
    workers: int = 0
    """Processes that read and decode ahead; with 0, threads of the training process."""


@dataclasses.dataclass(frozen=True)
class ArrayRecord:
    """Images packed into one .array_record file by `equisct-data pack`."""

    path: pathlib.Path = pathlib.Path("images.array_record")
    """The file."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    workers: int = 0
    """Processes that read ahead; with 0, threads of the training process."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A rotated product of two equal 1-D Gaussian mixtures: its flow map is known in closed form."""

    modes: int = 3
    """Modes per axis, evenly spaced on [-1, 1]."""
    std: float = 0.15
    """Standard deviation of each mode, in data units."""
    angle: float = 30.0
    """Rotation, in degrees."""
    samples: int = 100_000
    """Points drawn once for training."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Noise and the samples that a teacher made of it, from `equisct-sample RUN --pairs`."""

    path: pathlib.Path = pathlib.Path("pairs.npz")
    """The file; it is read without pickle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How data of a path are read, whatever kind they are; a setting that their kind does not have is refused."""

    array: str | None = None
    """Of an .npz file: name of the array; default images, else arr_0, else the only one beside
    labels."""
    size: int | None = None
    """Of image files: side in pixels: the middle square of each image is reduced to it. Default: all images have the
    same size."""
    bad: Literal["error", "skip"] = "error"
    """Of image files: what one that cannot be used does: stop, or give its place to the next good one."""
    bad_limit: float = 0.01
    """Of image files: largest share of skipped ones, 0 to 1."""
    index: pathlib.Path | None = None
    """Of image files: what is known about them, as `equisct-data check` writes it. Default: PATH.index.json, if
    there."""


Data = Digits | CIFAR10 | IDX | Npz | ImageFiles | ArrayRecord | Mixture | Pairs


def check_data(data: Data, batch: int) -> None:
    """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""
    if isinstance(data, Mixture):
        check_at_least("data.modes", data.modes, 1)
        check_positive("data.std", data.std)
        check_at_least("data.samples", data.samples, batch)
    if isinstance(data, ImageFiles | ArrayRecord):
        check_at_least("data.workers", data.workers, 0)
    if isinstance(data, ImageFiles):
        check_images("data.", data)


def check_images(prefix: str, asked: ImageFiles | Reading) -> None:
    """Raises `ValueError`, naming the flag, if a setting of image files is out of its range."""
    if asked.size is not None:
        check_at_least(f"{prefix}size", asked.size, 1)
    if not 0 <= asked.bad_limit <= 1:
        raise ValueError(f"{prefix}bad_limit: expected a number in [0, 1], found {asked.bad_limit}")
