"""Grids of noise levels, and pairs of levels on one trajectory.

Notation: a grid ascends from `sigma_min` at index 0 to `sigma_max`; `points` levels enclose `points - 1` intervals.
Grids are NumPy float64 on the host: in float32 a grid misses its own end points, and its gaps are off by up to 1e-4.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float64

from ._base.check import check_at_least, check_levels, check_positive
from ._base.defaults import RHO, SIGMA_MAX, SIGMA_MIN
from ._base.types import Level


def karras_grid(
    points: int, *, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> Float64[np.ndarray, " points"]:
    """The ascending grid `t_i = (a + i / (points - 1) (b - a))^rho`, `a = sigma_min^(1/rho)`, `b = sigma_max^(1/rho)`.

    The end points are exactly `sigma_min` and `sigma_max` (Karras et al. 2022, there descending).

    Raises:
        ValueError: unless `points >= 2`, `0 < sigma_min < sigma_max` and `rho > 0`.
    """
    check_at_least("points", points, 2)
    check_levels(sigma_min, sigma_max)
    check_positive("rho", rho)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    grid = (low + np.linspace(0.0, 1.0, points) * (high - low)) ** rho
    grid[0], grid[-1] = sigma_min, sigma_max
    return grid


class LevelPair(eqx.Module):
    """Two levels of one trajectory: the student's `t` and the teacher's `r`, with `t > r >= 0` and `gap = t - r`.

    The gap is a field of its own because neighbours of a fine grid lie so close that the difference of their float32
    values is off (2.5e-5 of it at 1281 points): a `LevelTable` rounds the exact one. `LevelPair.from_levels(t, r)`
    subtracts. Many pairs: `jax.vmap(LevelPair)(t, r, gap)`.
    """

    t: Level
    r: Level
    gap: Level

    def __check_init__(self) -> None:
        if isinstance(self.t, int | float) and isinstance(self.r, int | float) and not self.t > self.r >= 0:
            raise ValueError(f"t, r: expected t > r >= 0, found t = {self.t}, r = {self.r}")

    @staticmethod
    def from_levels(t: Level, r: Level) -> "LevelPair":
        """The pair whose gap is `t - r`, computed in the levels' own precision."""
        return LevelPair(t, r, t - r)
