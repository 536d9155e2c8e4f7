"""What can be trained on, as plain frozen dataclasses: the groups of `--data.*`. Free of JAX.

The docstring under a field is its help text. Values are checked in `check.py`.
"""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey; shipped in its wheel, nothing is downloaded."""


@dataclasses.dataclass(frozen=True)
class CIFAR10:
    """CIFAR-10's 50,000 training images, 32x32 colour, from the official binary version."""

    path: pathlib.Path = pathlib.Path("cifar-10-batches-bin")
    """Folder with data_batch_1.bin to data_batch_5.bin, or the archive cifar-10-binary.tar.gz."""
    flip: bool = True
    """Mirror each image left to right with probability 1/2."""


@dataclasses.dataclass(frozen=True)
class IDX:
    """Grey images in MNIST's IDX files (Fashion-MNIST and relatives)."""

    path: pathlib.Path = pathlib.Path("fashion-mnist")
    """Folder with train-images-idx3-ubyte[.gz], or one images file."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""


@dataclasses.dataclass(frozen=True)
class Npz:
    """Arrays of your own: uint8 images (n, h, w, channels) or float32 vectors (n, d) in an .npz file."""

    path: pathlib.Path = pathlib.Path("images.npz")
    """The file; it is read without pickle."""
    key: str = "images"
    """Name of the array in the file."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""


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


Data = Digits | CIFAR10 | IDX | Npz | Mixture
