"""Values of a row in other forms: JSON's own types, and flat."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .protocol import Values


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
