"""Nearest neighbours in a space of features: precision and recall, density and coverage, copies of the data."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float, Int

BLOCK = 1024
"""Rows whose distances are held at a time."""

EXACT = 10**7
"""Differences up to which they are taken one by one; beyond, squares come from products, which round."""

Rows = Float[Array | np.ndarray, "n d"]


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of the samples that look like data, and of the data that the samples cover."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """How crowded with data the samples' places are (1: as the data's own), the share of data with a sample near."""

    density: float
    coverage: float


class Neighbours(NamedTuple):
    """For each sample the nearest datum: which it is, its distance, and that of the next nearest."""

    datum: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    next_distance: Float[np.ndarray, " m"]


def precision_recall(data: Rows, samples: Float[Array | np.ndarray, "m e"], *, k: int = 3) -> PrecisionRecall:
    """Whether each sample lies in the ball of a datum's k-th neighbour among the data, and the other way round.

    Kynkäänniemi et al. 2019.

    Args:
        data: features of the data.
        samples: features of the samples.
        k: neighbour, not counting the point itself, that gives a ball its radius.

    Raises:
        ValueError: unless there are more than `k` rows in both, and `k` >= 1; for numbers that are not finite.
    """
    data, samples = _checked(data, samples, {"data": k, "samples": k}, k)
    of_data, of_samples = _radii(data, k), _radii(samples, k)
    precise, recalled = 0, np.zeros(len(data), bool)
    for rows, squares in _squares(samples, data):
        precise += int((squares <= of_data).any(1).sum())
        recalled |= (squares <= of_samples[rows, None]).any(0)
    return PrecisionRecall(precise / len(samples), float(recalled.mean()))


def density_coverage(data: Rows, samples: Float[Array | np.ndarray, "m e"], *, k: int = 5) -> DensityCoverage:
    """How many balls of data each sample lies in, by `k`, and how many balls of data hold a sample (Naeem et al. 2020).

    Unlike precision and recall, one far datum with its large ball does little.

    Args:
        data: features of the data.
        samples: features of the samples, at least one.
        k: neighbour, not counting the point itself, that gives a ball its radius.

    Raises:
        ValueError: unless there are more than `k` >= 1 data and a sample; for numbers that are not finite.
    """
    data, samples = _checked(data, samples, {"data": k, "samples": 0}, k)
    radii, inside, covered = _radii(data, k), 0, np.zeros(len(data), bool)
    for _, squares in _squares(samples, data):
        hits = squares < radii
        inside += int(hits.sum())
        covered |= hits.any(0)
    return DensityCoverage(inside / (k * len(samples)), float(covered.mean()))


def nearest(data: Rows, samples: Float[Array | np.ndarray, "m e"]) -> Neighbours:
    """The nearest data of each sample, by Euclidean distance.

    Args:
        data: features of the data, at least two rows.
        samples: features of the samples, at least one.

    Raises:
        ValueError: for fewer; for numbers that are not finite.
    """
    data, samples = _checked(data, samples, {"data": 1, "samples": 0}, 1)
    blocks = []
    for _, squares in _squares(samples, data):
        two = np.argpartition(squares, 1, axis=1)[:, :2]  # in order: what stands before place 1 is not larger
        blocks.append((two[:, 0], *np.sqrt(np.take_along_axis(squares, two, 1)).T))
    return Neighbours(*map(np.concatenate, zip(*blocks, strict=True)))


def memorised_share(found: Neighbours, *, ratio: float = 1 / 3) -> float:
    """The share of samples that are copies: nearer to one datum than `ratio` times the way to the next.

    The bound of a third is that of Yoon et al. 2023 for pixels. Data that lie twice in the set hide their copies.

    Args:
        found: of `nearest`.
        ratio: in (0, 1].

    Raises:
        ValueError: for a ratio out of its range.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio: expected a number in (0, 1], found {ratio}")
    return float((found.distance < ratio * found.next_distance).mean())


def _checked(
    data: Array | np.ndarray, samples: Array | np.ndarray, least: dict[str, int], k: int
) -> tuple[np.ndarray, np.ndarray]:
    data, samples = np.asarray(data), np.asarray(samples)
    for name, rows in (("data", data), ("samples", samples)):
        if k < 1 or len(rows) <= least[name] or rows.shape[1] != data.shape[1] or not np.isfinite(rows).all():
            expected = f"more than {least[name]} rows of {data.shape[1]} finite features and k >= 1"
            raise ValueError(f"{name}: expected {expected}, found {rows.shape} and {k}")
    return data, samples


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each row to its k-th neighbour, of which it is the zeroth itself."""
    return np.concatenate([np.partition(squares, k, axis=1)[:, k] for _, squares in _squares(features, features)])


def _squares(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances of the rows of `a`, a block at a time, to all of `b`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    centre = b.mean(0)  # nothing but rounding depends on it
    a, b = a - centre, b - centre
    of_b = np.square(b).sum(1)
    for start in range(0, len(a), BLOCK):
        rows = slice(start, start + BLOCK)
        if a[rows].size * len(b) < EXACT:
            yield rows, np.square(a[rows, None, :] - b[None, :, :]).sum(2)
        else:
            yield rows, np.maximum(np.square(a[rows]).sum(1)[:, None] + of_b - 2 * a[rows] @ b.T, 0)
