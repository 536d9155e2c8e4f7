"""Distances of samples that are vectors, in their own space: sliced Wasserstein and energy distance."""

import numpy as np
from jax import Array
from jaxtyping import Float

BLOCK = 256
"""Rows of each set whose distances are held at a time: they fit into a cache."""

Rows = Float[Array | np.ndarray, "n d"]


def sliced_wasserstein(a: Rows, b: Float[Array | np.ndarray, "m e"], *, directions: int = 256, seed: int = 0) -> float:
    """The root of the mean squared 2-Wasserstein distance of projections onto random directions (Bonneel et al. 2015).

    In one dimension it is the 2-Wasserstein distance itself: sorted values, or quantile functions where the sets are of
    different sizes.

    Args:
        a: the first set, at least one row.
        b: the second.
        directions: unit vectors, uniform on the sphere.
        seed: of the directions: compare only distances of one seed.

    Raises:
        ValueError: for empty sets, another number of columns, no directions, or numbers that are not finite.
    """
    a, b = _checked(a, b)
    if directions < 1:
        raise ValueError(f"directions: expected one or more, found {directions}")
    axes = np.random.default_rng(seed).normal(size=(a.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    first, second = (np.sort(x.astype(np.float64) @ axes, axis=0) for x in (a, b))
    # Both quantile functions are steps: constant between the ends of their steps.
    ends = np.union1d(np.arange(1, len(a) + 1) / len(a), np.arange(1, len(b) + 1) / len(b))
    widths = np.diff(ends, prepend=0.0)
    middle = ends - widths / 2
    gap = first[(middle * len(a)).astype(int)] - second[(middle * len(b)).astype(int)]
    return float(np.sqrt((widths[:, None] * np.square(gap)).sum(0).mean()))


def energy_distance(a: Rows, b: Float[Array | np.ndarray, "m e"]) -> float:
    """`2 E|x - y| - E|x - x'| - E|y - y'|`: unbiased, so it may be below 0 (Székely & Rizzo 2013).

    Args:
        a: the first set, at least two rows.
        b: the second.

    Raises:
        ValueError: for fewer than two rows, another number of columns, or numbers that are not finite.
    """
    a, b = _checked(a, b, least=2)
    n, m = len(a), len(b)
    own = _within(a) / (n * (n - 1)) + _within(b) / (m * (m - 1))
    return float(2 * _total(a, b) / (n * m) - own)


def _checked(a: Array | np.ndarray, b: Array | np.ndarray, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    for name, rows in (("a", a), ("b", b)):
        if len(rows) < least or rows.shape[1] != a.shape[1] or not np.isfinite(rows).all():
            expected = f"{least} or more rows of {a.shape[1]} finite numbers"
            raise ValueError(f"{name}: expected {expected}, found {rows.shape}")
    return a, b


def _within(a: np.ndarray) -> float:
    """The sum of the distances of all ordered pairs of rows; of a row to itself exactly 0."""
    total = 0.0
    for start in range(0, len(a), BLOCK):
        block = a[start : start + BLOCK]
        total += _total(block, block) + 2 * _total(block, a[start + BLOCK :])
    return total


def _total(a: np.ndarray, b: np.ndarray) -> float:
    """The sum of the distances of all rows of one to all of the other."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    total = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            one, other = a[i : i + BLOCK], b[j : j + BLOCK]
            squares = sum(np.square(np.subtract.outer(x, y)) for x, y in zip(one.T, other.T, strict=True))
            total += float(np.sqrt(squares).sum())
    return total
