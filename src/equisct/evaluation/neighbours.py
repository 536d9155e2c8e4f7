"""Precision and recall by nearest neighbours in a space of features (Kynkäänniemi et al. 2019)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of the samples that look like data, and of the data that the samples cover."""

    precision: float
    recall: float


def precision_recall(
    data: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"], *, k: int = 3
) -> PrecisionRecall:
    """Whether each sample lies in the ball of a datum's k-th neighbour among the data, and the other way round.

    Memory grows with `n m`: for some thousand rows.

    Args:
        data: features of the data.
        samples: features of the samples.
        k: neighbour, not counting the point itself, that gives a ball its radius.

    Raises:
        ValueError: unless there are more than `k` rows in both, and `k` >= 1.
    """
    for name, features in (("data", data), ("samples", samples)):
        if not 1 <= k < len(features) or features.shape[1] != data.shape[1]:
            raise ValueError(
                f"{name}: expected more than k = {k} >= 1 rows of {data.shape[1]} features, found {features.shape}"
            )
    data, samples = data.astype(np.float64), samples.astype(np.float64)
    between = _distances(data, samples)
    in_data = between <= _radii(data, k)[:, None]
    in_samples = between <= _radii(samples, k)[None, :]
    return PrecisionRecall(float(in_data.any(0).mean()), float(in_samples.any(1).mean()))


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each row to its k-th neighbour, of which it is the zeroth itself."""
    return np.partition(_distances(features, features), k, axis=1)[:, k]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of all pairs of rows."""
    return np.square(a[:, None, :] - b[None, :, :]).sum(-1) if a.size * len(b) < 1e7 else _by_products(a, b)


def _by_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(squares, 0)
