"""The search for the levels of multistep consistency sampling (Song et al. 2023, section 3; its Algorithm 1 uses them).

On the host: the objective is any function of a list of levels, such as a Fréchet distance of samples from fixed noise.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from .._base.check import check_at_least
from .._base.concrete import in_line


def search_levels(
    objective: Callable[[Sequence[float]], float], grid: Float[np.ndarray, " points"], count: int
) -> tuple[float, ...]:
    """The `count` levels, first the grid's top, each found by a ternary search on the grid's index, greedily.

    Each further level is looked for below the last one found, by probes at one and two thirds of the interval; the last
    four points are all tried, so that an end of the interval can win. No list is evaluated twice. The search finds the
    best point where the objective has one minimum along the index, and a good one otherwise.

    Args:
        objective: of strictly descending levels, the smaller the better; called on the host.
        grid: ascending levels, such as `karras_grid(1281)`.
        count: levels in all, between 1 and the grid's points less one.

    Raises:
        ValueError: for a grid out of order, a count outside its range, or an objective that gives NaN.
    """
    if len(grid) < 2 or np.any(np.diff(grid) <= 0) or grid[0] <= 0:
        raise ValueError(f"grid: expected two or more ascending levels > 0, found {in_line(grid)}")
    check_at_least("count", count, 1)
    if count > len(grid) - 1:
        raise ValueError(f"count: expected at most {len(grid) - 1} levels of a grid of {len(grid)}, found {count}")
    found, seen = [len(grid) - 1], {}

    def value(index: int) -> float:
        levels = tuple(float(grid[i]) for i in (*found, index))
        if levels not in seen:
            seen[levels] = float(objective(levels))
            if np.isnan(seen[levels]):
                raise ValueError(f"objective: expected a number at levels {levels}, found NaN")
        return seen[levels]

    for left in range(count - 1, 0, -1):
        found.append(_ternary(value, left, found[-1] - 1))
    return tuple(float(grid[i]) for i in found)


def _ternary(value: Callable[[int], float], low: int, high: int) -> int:
    """The best index in [low, high] of a function with one minimum."""
    while high - low > 3:
        third = (high - low) // 3
        a, b = low + third, high - third
        low, high = (low, b) if value(a) <= value(b) else (a, high)
    return min(range(low, high + 1), key=value)
