"""Averages of the weights over the updates: how much of the newest weights each update lets in.

Notation: `step` counts the updates done before this one, from 0; `i` and `t` count updates from 1. After `t` updates
an average is `sum_i w_i theta_i`, where `theta_i` are the weights after update `i`; the `w_i`, which sum to 1, are its
profile. An average must run from the first update on, for the profile to be the one stated here.
"""

import abc
import math
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int

from .._base.check import check_at_least, check_fraction, check_positive
from .._base.defaults import EMA_DECAY
from .._base.tree import lerp
from .._base.types import Scalar, Step

T = TypeVar("T")


class AbstractAverage(eqx.Module):
    """A rule of averaging, told twice: one update for the device, the whole profile for the host."""

    @abc.abstractmethod
    def share(self, step: Step) -> Scalar:
        """The share of the newest weights in the average after the update, in (0, 1]; 1 at step 0.

        The average becomes `(1 - share) old + share new`. It is this share, not `1 - share`, that is computed, since
        `1 - 1e-5` is known in float32 to no more than three digits.
        """

    @abc.abstractmethod
    def cumulative(self, updates: Int[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, " n"]:
        """`w_1 + ... + w_i` for each `i` of `updates` (0 gives 0) in the average after `steps` >= 1 updates.

        It is the product of `1 - share` over the updates after `i`; from `steps` on it is 1.
        """


class ConstantDecay(AbstractAverage):
    """The exponential moving average: `w_i = (1 - decay) decay^(t - i)`, over about `1 / (1 - decay)` updates.

    The first two updates overwrite the average, as in the paper's code, so that `w_1 = 0` and `w_2 = decay^(t - 2)`
    from the second on.

    Args:
        decay: share of the old average kept at each later update, in [0, 1).
    """

    decay: float = EMA_DECAY

    def __check_init__(self) -> None:
        check_fraction("decay", self.decay)

    def share(self, step: Step) -> Scalar:
        """1 for the first two updates, then `1 - decay`."""
        return jnp.where(jnp.asarray(step) < 2, 1.0, 1.0 - self.decay)

    def cumulative(self, updates: Int[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, " n"]:
        """`decay^(t - i)` from `i = 2` on."""
        kept = float(self.decay) ** np.maximum(steps - updates, 0)
        return np.where(updates >= min(2, steps), kept, 0.0)


class RampedDecay(AbstractAverage):
    """EDM's moving average (Karras et al. 2022): a half-life of at most `ramp` times the updates done so far.

    Args:
        decay: share of the old average kept at each update once the half-life has grown, in [0, 1).
        ramp: half-life in units of the updates done, > 0; EDM's is 0.05.
    """

    decay: float = EMA_DECAY
    ramp: float = 0.05

    def __check_init__(self) -> None:
        check_fraction("decay", self.decay)
        check_positive("ramp", self.ramp)

    def share(self, step: Step) -> Scalar:
        """The larger of `1 - decay` and `1 - 2^(-1 / (ramp step))`."""
        half_life = self.ramp * jnp.asarray(step, float)
        return jnp.maximum(1.0 - self.decay, -jnp.expm1(-math.log(2) / half_life))

    def cumulative(self, updates: Int[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, " n"]:
        """The product itself, over all updates: it has no shorter form."""
        with np.errstate(divide="ignore"):
            kept = np.minimum(float(self.decay), 2.0 ** (-1 / (float(self.ramp) * np.arange(steps))))
        after = np.append(np.cumprod(kept[::-1])[::-1], 1.0)
        return after[np.minimum(updates, steps)]


class PowerFunction(AbstractAverage):
    """The power-function average of Karras et al. (2024, EDM2): `w_i = (i^(g+1) - (i-1)^(g+1)) / t^(g+1)`.

    Its length grows with the run: its standard deviation is a constant part of the updates done, see `std`.

    Args:
        exponent: g (their gamma), >= 0; 0 is the plain mean of all updates.
    """

    exponent: float

    def __check_init__(self) -> None:
        check_at_least("exponent", self.exponent, 0)

    @staticmethod
    def from_std(std: float) -> "PowerFunction":
        """The average of relative standard deviation `std` (their sigma_rel): 0.05 and 0.10 are the usual pair.

        The exponent is the largest root of `(g + 2)^2 (g + 3) = (g + 1) / std^2`.

        Raises:
            ValueError: unless 0 < `std` <= 1 / sqrt(12) = 0.2886..., the plain mean's.
        """
        check_positive("std", std)
        if std > 1 / math.sqrt(12):
            raise ValueError(f"std: expected at most 1 / sqrt(12) = 0.2886..., found {std}")
        roots = np.roots([1.0, 7.0, 16.0 - std**-2.0, 12.0 - std**-2.0])
        return PowerFunction(max(float(roots.real.max()), 0.0))

    @property
    def std(self) -> float:
        """Standard deviation of the profile `w_i ~ i^g` as a part of the run's length, in the limit of long runs."""
        g = self.exponent
        return math.sqrt((g + 1) / (g + 3)) / (g + 2)

    def share(self, step: Step) -> Scalar:
        """`1 - (1 - 1 / (step + 1))^(g + 1)`."""
        return -jnp.expm1((self.exponent + 1) * jnp.log1p(-1 / (jnp.asarray(step, float) + 1)))

    def cumulative(self, updates: Int[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, " n"]:
        """`(i / t)^(g + 1)`."""
        return (np.minimum(updates, steps) / steps) ** (self.exponent + 1.0)


def update_average(average: AbstractAverage, old: T, new: T, step: Step) -> T:
    """The average after one more update: `old + share (new - old)` on floating-point arrays, other leaves of `new`.

    Args:
        average: the rule.
        old: the average so far; any tree of the same structure at step 0.
        new: the weights after this update.
        step: updates done before this one.
    """
    return lerp(old, new, average.share(step))
