"""What a tracker is: five methods, called by the training loop from one thread, in this order; and what it is given."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Values = Mapping[str, Any]
"""A flat row: name -> number, None (not known), or a list of those."""


@runtime_checkable
class Tracker(Protocol):
    """Something that keeps the rows and pictures of a run.

    A method may raise; wrap a tracker in `Guarded` where that must not stop training.
    """

    def start(self, folder: pathlib.Path, config: Mapping[str, Any], step: int) -> None:
        """Begins, once and before all else.

        Args:
            folder: the run's folder, which exists; a tracker keeps its files there.
            config: the run's settings as plain JSON, without secrets.
            step: updates done so far. At 0 the run begins afresh and nothing kept before counts; otherwise it goes on,
                and what was kept of later steps must vanish or be superseded.
        """
        ...

    def log(self, step: int, values: Values) -> None:
        """Keeps one row, about the updates up to `step`."""
        ...

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "h w c"]) -> None:
        """Keeps one picture, channel last; of 1, 3 or 4 channels."""
        ...

    def flush(self) -> None:
        """Brings everything so far to safety; the loop calls it before it saves a checkpoint."""
        ...

    def close(self) -> None:
        """Ends; nothing is called afterwards."""
        ...


def plain(value: Any) -> Any:
    """The same in JSON's own types, None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat_numbers(values: Values) -> dict[str, float]:
    """The finite numbers of a row, those of a list under `name/bin_0`, `name/bin_1`...; the bins' edges left out."""
    flat: dict[str, Any] = {}
    for name, value in plain({n: v for n, v in values.items() if not n.endswith("_bin_edges")}).items():
        flat |= {f"{name}/bin_{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {name: value}
    return {name: value for name, value in flat.items() if isinstance(value, (int, float))}
