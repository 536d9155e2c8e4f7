"""How sure a number is: over seeds or splits, and by resampling."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.concrete import in_line


class Spread(NamedTuple):
    """Mean and standard deviation of several runs; of a single one the standard deviation is not a number."""

    mean: float
    std: float
    runs: int


class Interval(NamedTuple):
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def spread(values: Sequence[float] | Float[Array | np.ndarray, " n"]) -> Spread:
    """Of several seeds: their mean and standard deviation (n - 1), never the best of them.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    found = np.asarray(values, np.float64)
    if not found.size or not np.isfinite(found).all():
        raise ValueError(f"values: expected one or more finite numbers, found {in_line(found)}")
    return Spread(float(found.mean()), float(found.std(ddof=1)) if found.size > 1 else float("nan"), found.size)


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "n d"]], float],
    rows: Float[Array | np.ndarray, "n d"],
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Basic bootstrap interval of a statistic of independent rows (Davison & Hinkley 1997, chapter 5).

    Resampled rows repeat, which biases a Fréchet distance upwards by about as much again as the sample's size does; the
    basic interval reflects the resamples about the value, so that bias counts towards the lower end.

    Args:
        statistic: `(n, d) -> number`.
        rows: features, say.
        resamples: sets drawn with replacement, >= 2.
        level: share of intervals that hold the truth, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: for settings out of their range.
    """
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"resamples, level: expected >= 2 and in (0, 1), found {resamples} and {level}")
    rows, draw = np.asarray(rows), np.random.default_rng(seed)
    value = float(statistic(rows))
    found = [float(statistic(rows[draw.integers(len(rows), size=len(rows))])) for _ in range(resamples)]
    upper, lower = np.quantile(found, [(1 + level) / 2, (1 - level) / 2])
    return Interval(value, 2 * value - float(upper), 2 * value - float(lower))
