"""Noise and what a sampler made of it, in one `.npz` file: what knowledge distillation learns from."""

import dataclasses
import os
import zipfile

import numpy as np

from .._base.batch import Pair
from .._base.explain import in_brief
from .._base.files import as_path
from ._files import FilePath, existing, printable, refused
from .arrays import npz_members, read_array
from .errors import DataError, describe
from .records import Flips, Indices

ACCEPTED = """an .npz file of equisct-sample --pairs:
  z: float32 (n, *shape), unit Gaussian noise
  samples: float32 (n, *shape), what the teacher's sampler made of it
  teacher: text, the SHA-256 of the teacher's weights"""
EXAMPLE = "equisct-sample runs/teacher --pairs --n 50000 --out pairs.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
    """Noise and the samples made of it, in memory; a batch of this set is a `Pair`.

    Attributes:
        z: the noise, float32 (n, *shape).
        samples: what was made of it, float32 (n, *shape), finite.
        teacher: the hash of the weights that made them.
        name: what to call the set in logs.

    Raises:
        DataError: one of these does not hold.
    """

    z: np.ndarray
    samples: np.ndarray
    teacher: str
    name: str

    def __repr__(self) -> str:
        return in_brief(self)

    def __post_init__(self):
        for what, array in (("z", self.z), ("samples", self.samples)):
            right = array.dtype == np.float32 and array.ndim in (2, 4) and array.size and np.isfinite(array).all()
            if not right or array.shape != self.z.shape:
                shapes = f"(n, d) or (n, c, h, w), of one shape in z and samples: {self.z.shape}"
                raise DataError(f"{self.name}: {what}", f"a {describe(array)}", f"finite float32 numbers {shapes}")

    @property
    def size(self) -> int:
        """The number of pairs."""
        return len(self.z)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the noise, and of what was made of it."""
        return self.z.shape[1:]

    def take(self, indices: Indices, flip: Flips = None) -> Pair:
        """The pairs at `indices`; `flip` must be None.

        Raises:
            DataError: `flip` is given: the noise of a mirrored image is not the mirrored noise.
        """
        if flip is not None:
            raise DataError(f"{self.name}: flip", "flips for pairs of noise and sample", "None")
        return Pair(self.z[indices], self.samples[indices])


def save_pairs(path: str | os.PathLike[str], z: np.ndarray, samples: np.ndarray, teacher: str) -> None:
    """Writes the file that `load_pairs` reads."""
    np.savez(as_path(path), z=z.astype(np.float32), samples=samples.astype(np.float32), teacher=np.array(teacher))


def load_pairs(path: FilePath) -> PairSet:
    """The pairs of an `.npz` file.

    Raises:
        DataError: nothing usable is there.
    """
    place = existing(path, ACCEPTED, EXAMPLE)
    arrays = {}
    with refused(place, ACCEPTED, EXAMPLE), place.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = npz_members(archive)
        for name in ("z", "samples", "teacher"):
            if name not in members:
                found = f"no array {name!r}, but {printable(list(members))}"
                raise DataError(place, found, ACCEPTED, f"for example {EXAMPLE}")
            arrays[name] = read_array(archive, members, name, place)
        teacher = arrays["teacher"]
        if teacher.dtype.kind != "U" or teacher.ndim or teacher.dtype.itemsize > 4 * 64:
            raise DataError(f"{place}['teacher']", f"a {describe(teacher)}", "a text of at most 64 characters")
    return PairSet(arrays["z"], arrays["samples"], str(teacher), place.name.split(".")[0])
