"""Data sets in memory: `ImageSet` and `VectorSet`, and `Dataset`, what the loader needs of any of them."""

import dataclasses
import math
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int

from .._base.explain import in_brief
from .errors import DataError, describe
from .images import images_to_float

Indices: TypeAlias = Int[np.ndarray, " batch"]
Flips: TypeAlias = Bool[np.ndarray, " batch"] | None


@runtime_checkable
class Dataset(Protocol):
    """Samples that can be read in any order; anything with these three members can be trained on."""

    @property
    def size(self) -> int:
        """The number of samples."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one clean sample; images are channel first."""
        ...

    def take(self, indices: Indices, flip: Flips = None) -> Any:
        """The samples at `indices`, each mirrored left to right where `flip` is true.

        What is taken is the batch: an array, an `Example`, a `Pair`, or any pytree of arrays whose first axis is that
        of `indices`.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures in memory, as stored: uint8, channel last, values 0 to 255.

    Attributes:
        images: The pictures, uint8 (n, h, w, c): 1 (grey) or 3 (red, green, blue) channels, at least one picture.
        name: What to call the set in logs.
        labels: One class number per picture, int64 (n,), if there are any.

    Raises:
        DataError: One of these does not hold.
    """

    images: np.ndarray
    name: str
    labels: np.ndarray | None = None

    def __repr__(self) -> str:
        return in_brief(self)

    def __post_init__(self):
        check_images(f"{self.name}: images", self.images)
        if self.labels is not None:
            check_labels(f"{self.name}: labels", self.labels, len(self.images))
        object.__setattr__(self, "images", np.ascontiguousarray(self.images))

    @property
    def size(self) -> int:
        """The number of pictures."""
        return self.images.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (c, h, w) of one sample."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    def take(self, indices: Indices, flip: Flips = None) -> Float32[np.ndarray, "batch c h w"]:
        """The samples at `indices`, in [-1, 1], each mirrored left to right where `flip` is true."""
        images = self.images[indices]
        if flip is not None:
            images[flip] = images[flip][:, :, ::-1]
        return images_to_float(images)


@dataclasses.dataclass(frozen=True, eq=False)
class VectorSet:
    """Vectors in memory, used as they are: no scaling.

    Attributes:
        points: The vectors, float32 (n, d): at least one, all numbers finite.
        name: What to call the set in logs.
        labels: One class number per vector, int64 (n,), if there are any.

    Raises:
        DataError: One of these does not hold.
    """

    points: np.ndarray
    name: str
    labels: np.ndarray | None = None

    def __repr__(self) -> str:
        return in_brief(self)

    def __post_init__(self):
        check_points(f"{self.name}: points", self.points)
        if self.labels is not None:
            check_labels(f"{self.name}: labels", self.labels, len(self.points))

    @property
    def size(self) -> int:
        """The number of vectors."""
        return self.points.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (d,) of one sample."""
        return self.points.shape[1:]

    def take(self, indices: Indices, flip: Flips = None) -> Float32[np.ndarray, "batch d"]:
        """A copy of the vectors at `indices`; `flip` must be None.

        Raises:
            DataError: `flip` is given: vectors have no left and right.
        """
        if flip is not None:
            raise DataError(f"{self.name}: flip", "flips for vectors", "None", "only images can be mirrored")
        return self.points[indices]


def check_images(where: str, images: np.ndarray) -> None:
    """Raises `DataError` unless these are the images of an `ImageSet`."""
    expected = "at least one image: a uint8 array (n, h, w, c) of values 0 to 255, with c = 1 or 3"
    right = images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3) and images.size > 0
    if not right:
        raise DataError(where, f"a {describe(images)}", expected, _image_hint(images))


def _image_hint(images: np.ndarray) -> str:
    if not images.size:
        return "the set is empty"
    if images.dtype != np.uint8:
        return _dtype_hint(images)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return "channels come last: images.transpose(0, 2, 3, 1)"
    if images.ndim == 4 and images.shape[-1] in (2, 4):
        return f"drop the alpha channel: images[..., :{images.shape[-1] - 1}]"
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4):
        return "this looks like one image: images[None]"
    return flat_hint(images.shape[1]) if images.ndim == 2 else ""


def flat_hint(numbers: int, images: str = "images") -> str:
    """Of images whose pixels lie in one row of so many numbers; `images` is the array in Python."""
    side, grey = math.isqrt(numbers // 3), math.isqrt(numbers)
    if numbers == 3 * side**2:
        planes = f"{images}.reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1)"
        pixels = f"{images}.reshape(-1, {side}, {side}, 3)"
        return f"{planes} if red, green and blue follow one another (CIFAR, ImageNet-32), else {pixels}"
    if numbers == grey**2:
        return f"grey images are (n, h, w): {images}.reshape(-1, {grey}, {grey})"
    return "reshape each row to its image; grey images may also be (n, h, w) in an .npz file"


def _dtype_hint(images: np.ndarray) -> str:
    if images.dtype.kind == "b":
        return "images.astype(np.uint8) * 255"
    if images.dtype.kind not in "uif":
        return "images are numbers"
    if not np.isfinite(images).all():
        return "find out where the NaN or infinite values come from; they have no colour"
    low, high = images.min(), images.max()
    if images.dtype.kind in "ui":
        fits = low >= 0 and high <= 255
        return "images.astype(np.uint8)" if fits else "if these are 16 bits a channel: (images // 257).astype(np.uint8)"
    if low >= 0 and high <= 1:
        return "values in [0, 1]: np.round(images * 255).astype(np.uint8)"
    if low >= -1 and high <= 1:
        return "values in [-1, 1]: np.round(images * 127.5 + 127.5).astype(np.uint8)"
    if low >= 0 and high <= 255:
        return "values in [0, 255]: np.round(images).astype(np.uint8)"
    return "scale to [0, 255] first, then np.round(images).astype(np.uint8)"


def are_labels(labels: np.ndarray, size: int) -> bool:
    """Whether these are class numbers of `size` samples: int64, >= 0."""
    return labels.dtype == np.int64 and labels.shape == (size,) and labels.min() >= 0


def check_labels(where: str, labels: np.ndarray, size: int) -> None:
    """Raises `DataError` unless these are labels of `size` samples."""
    if not are_labels(labels, size):
        expected = f"an int64 array of shape ({size},), one class number >= 0 for each sample"
        raise DataError(where, f"a {describe(labels)}", expected)


def check_points(where: str, points: np.ndarray) -> None:
    """Raises `DataError` unless these are the points of a `VectorSet`."""
    if points.dtype != np.float32 or points.ndim != 2 or not points.size or not np.isfinite(points).all():
        hint = "points.astype(np.float32)" if points.dtype.kind in "uif" and points.dtype != np.float32 else ""
        expected = "at least one vector: a float32 array (n, d) of finite numbers"
        raise DataError(where, f"a {describe(points)}", expected, hint)
