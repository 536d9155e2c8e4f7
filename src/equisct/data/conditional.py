"""A data set whose samples come with what they are made under: classes, or arrays of numbers."""

import dataclasses
from typing import Any

import numpy as np

from .._base.batch import Example
from .._base.explain import in_brief
from .errors import DataError, describe
from .records import Dataset, Flips, Indices


@dataclasses.dataclass(frozen=True, eq=False)
class ConditionalSet:
    """Another data set in memory, its batches as `Example(x, condition)`.

    Attributes:
        dataset: The samples.
        conditions: One for each sample: class numbers 0, 1, ..., integers (n,), or float32 (n, ...), all finite.

    Raises:
        DataError: One of these does not hold.
    """

    dataset: Dataset
    conditions: np.ndarray

    def __repr__(self) -> str:
        return in_brief(self)

    def __post_init__(self):
        check_conditions(f"{self.name}: conditions", self.conditions, self.dataset.size)

    @property
    def name(self) -> str:
        """What to call the set in logs."""
        return str(getattr(self.dataset, "name", "data"))

    @property
    def size(self) -> int:
        """The number of samples."""
        return self.dataset.size

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.dataset.shape

    @property
    def classes(self) -> int | None:
        """How many classes there are: the greatest number, and one more; None where conditions are no classes."""
        return int(self.conditions.max()) + 1 if self.conditions.dtype.kind in "ui" else None

    def take(self, indices: Indices, flip: Flips = None) -> Any:
        """The samples at `indices` with their conditions; of mirrored samples the condition stays."""
        rows = self.conditions[indices]
        return Example(self.dataset.take(indices, flip), rows if self.classes is None else rows.astype(np.int32))


def check_conditions(where: str, conditions: np.ndarray, size: int) -> None:
    """Raises `DataError` unless these are the conditions of `size` samples."""
    classes = conditions.dtype.kind in "ui" and conditions.shape == (size,)
    numbers = conditions.dtype == np.float32 and conditions.ndim > 1 and len(conditions) == size
    if not classes and not numbers:
        expected = f"one for each of {size:,} samples: integers ({size},), or a float32 array ({size}, ...)"
        hint = ""
        if conditions.dtype.kind == "f" and len(conditions) == size:
            hint = "conditions.astype(np.float32)" + ("[:, None]" if conditions.ndim == 1 else "")
        raise DataError(where, f"a {describe(conditions)}", expected, hint)
    bad = conditions < 0 if classes else ~np.isfinite(conditions)
    if bad.any():
        first = int(np.argmax(bad.reshape(size, -1).any(1)))
        what = f"class {conditions[first]}" if classes else "a number that is not finite"
        expected = "class numbers 0, 1, ..." if classes else "finite numbers"
        raise DataError(where, f"{what} at sample {first}", expected)
    if classes and conditions.max() >= MOST_CLASSES:
        raise DataError(where, f"class {conditions.max()}", f"class numbers below {MOST_CLASSES:,}")


MOST_CLASSES = 100_000
"""More than any data set of images has; what is above is no class number but a number."""
