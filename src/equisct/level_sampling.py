"""Which interval of the grid each sample trains on: laws of the noise level, and their tables for all stages.

Two kinds: pairs of levels for the consistency objectives (`AbstractLevels`), single ones for denoising
(`AbstractSingleLevel`). Both turn a uniform number into levels, so that `stratified` numbers serve both.

Notation: interval `j` lies between the grid's points `t_j` (teacher) and `t_{j+1}` (student); a law gives its
probability `p_j`. A uniform number `u` in [0, 1) becomes an interval by the inverse of the cumulative sum of `p`.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jax.scipy.special import ndtri
from jaxtyping import Float, Float64

from ._base.check import check_at_least, check_finite, check_levels, check_positive
from ._base.defaults import ECT_NARROWING, ECT_WIDENING, ICT_LAW_MEAN, ICT_LAW_STD, RHO, SIGMA_MAX, SIGMA_MIN
from ._base.types import Key, Level, Scalar, Step
from .curriculum import AbstractCurriculum
from .discretization import LevelPair, karras_grid
from .variance_preserving import VPSchedule


class AbstractLevelLaw(eqx.Module):
    """A law over the intervals of any grid."""

    @abc.abstractmethod
    def probabilities(self, grid: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " intervals"]:
        """The probability of each of the `len(grid) - 1` intervals of an ascending grid; they sum to 1."""


class AbstractSingleLevel(eqx.Module):
    """A law of one noise level, for denoising."""

    @abc.abstractmethod
    def level(self, u: Scalar) -> Scalar:
        """The level sigma > 0 at which the law's distribution function is `u`, in [0, 1)."""


class AbstractLevels(eqx.Module):
    """A law of level pairs for each stage of a curriculum, between `sigma_min` and `sigma_max`."""

    @property
    @abc.abstractmethod
    def sigma_min(self) -> Level:
        """The lowest level, where the consistency function is the identity."""

    @property
    @abc.abstractmethod
    def sigma_max(self) -> Level:
        """The highest level, where sampling starts."""

    @abc.abstractmethod
    def draw(self, stage: Step, u: Scalar) -> LevelPair:
        """The pair of levels that `u`, uniform in [0, 1), gives at `stage`."""


def _log_erfc(z: float) -> float:
    """`log(erfc(z))`, also where `erfc` itself underflows (there by the tail series, to 1e-10)."""
    if z < 25:
        return math.log(math.erfc(z))
    return -(z**2) - math.log(z * math.sqrt(math.pi)) + math.log1p(-1 / (2 * z**2) + 3 / (4 * z**4) - 15 / (8 * z**6))


def _log_erf_difference(low: float, high: float) -> float:
    """`log(erf(high) - erf(low))` for low < high, without cancellation and without underflow."""
    if low < 0 < high:
        return math.log(math.erf(high) - math.erf(low))
    near, far = min(abs(low), abs(high)), max(abs(low), abs(high))
    log_near = _log_erfc(near)
    return log_near + math.log(-math.expm1(_log_erfc(far) - log_near))


class LogNormal(AbstractLevelLaw, AbstractSingleLevel):
    """`ln sigma ~ Normal(mean, std^2)`: the law of iCT (Song & Dhariwal 2024) by default; EDM's is (-1.2, 1.2).

    Over a grid's intervals it is cut at the grid's ends, as a law of single levels it is not:
    `p_j ~ erf((ln t_{j+1} - mean) / (sqrt(2) std)) - erf((ln t_j - mean) / (sqrt(2) std))`.

    Args:
        mean: P_mean.
        std: P_std, > 0.
    """

    mean: float = ICT_LAW_MEAN
    std: float = ICT_LAW_STD

    def __check_init__(self) -> None:
        check_finite("mean", self.mean)
        check_positive("std", self.std)

    def probabilities(self, grid: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " intervals"]:
        """The mass of each interval, in any tail: only ratios that float64 cannot hold become zero."""
        edges = (np.log(grid) - self.mean) / (math.sqrt(2.0) * self.std)
        log_mass = np.array([_log_erf_difference(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)])
        mass = np.exp(log_mass - log_mass.max())
        return mass / mass.sum()

    def level(self, u: Scalar) -> Scalar:
        """`exp(mean + std Phi^-1(u))`."""
        return jnp.exp(self.mean + self.std * ndtri(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))


class Uniform(AbstractLevelLaw):
    """Every interval alike: the law of the first consistency training (Song et al. 2023)."""

    def probabilities(self, grid: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " intervals"]:
        """`1 / intervals` each."""
        return np.full(len(grid) - 1, 1 / (len(grid) - 1))


class VPTimes(AbstractSingleLevel):
    """Every time of a variance-preserving schedule alike: DDPM's law (Ho et al. 2020, Algorithm 1).

    Args:
        schedule: relates times and levels.
    """

    schedule: VPSchedule = VPSchedule()

    def level(self, u: Scalar) -> Scalar:
        """The level of time `floor(u times)`."""
        sigmas = jnp.asarray(self.schedule.sigmas, jnp.float32)
        return sigmas[jnp.floor(u * self.schedule.times).astype(int)]


class ShrinkingPairs(AbstractLevels):
    """ECT's pairs (Geng et al. 2024): any level `t`, and `r = t (1 - n(t) / intervals)`, `n(t) = 1 + k sigmoid(-b t)`.

    The intervals are those of the curriculum's stage (ECT's `q^(stage + 1)`); at the first stages `r` is mostly
    `sigma_min`, below which it never falls, so that training begins as denoising. `t` is log-normal, cut to
    (sigma_min, sigma_max).

    Args:
        curriculum: step -> stage; ECT's is `Doubling(first=2, last=256, period=...)`.
        law: of `t`.
        k: how many times the gap is wider at low levels than at high ones, less one; >= 0.
        b: how fast it narrows with the level; >= 0.
        sigma_min: lowest level.
        sigma_max: highest level.
    """

    curriculum: AbstractCurriculum
    law: LogNormal = LogNormal()
    k: float = ECT_WIDENING
    b: float = ECT_NARROWING
    sigma_min: float = SIGMA_MIN  # pyright: ignore[reportIncompatibleMethodOverride]  (a field stands for the property)
    sigma_max: float = SIGMA_MAX  # pyright: ignore[reportIncompatibleMethodOverride]  (a field stands for the property)

    def __check_init__(self) -> None:
        check_levels(self.sigma_min, self.sigma_max)
        check_at_least("k", self.k, 0)
        check_at_least("b", self.b, 0)

    def draw(self, stage: Step, u: Scalar) -> LevelPair:
        """`t` by the inverse of its distribution function, and `r` from it."""
        low, high = (self._below(level) for level in (self.sigma_min, self.sigma_max))
        least = self.sigma_min * (1 + 1e-3)  # a gap that float32 can hold
        t = jnp.clip(self.law.level(low + u * (high - low)), least, self.sigma_max)
        intervals = jnp.asarray(self.curriculum.points, t.dtype)[stage] - 1
        share = (1 + self.k * jax.nn.sigmoid(-self.b * t)) / intervals
        gap = jnp.minimum(share * t, t - self.sigma_min)
        r = jnp.where(gap < share * t, self.sigma_min, jnp.maximum(t - gap, self.sigma_min))  # the lowest level exactly
        return LevelPair(t=t, r=r, gap=gap)

    def _below(self, level: float) -> float:
        """The probability of a level below `level`."""
        return (1 + math.erf((math.log(level) - self.law.mean) / (math.sqrt(2) * self.law.std))) / 2


class LevelTable(AbstractLevels):
    """Grids and laws of all stages, padded to one shape: a change of stage is a change of index, not a recompilation.

    Everything is computed in float64 and rounded once to float32. `cumulative` is infinite from each stage's last
    interval on, hence no `u` reaches the padding; probabilities are realised to 1e-7, float32's step near 1.
    """

    grid: Float[np.ndarray, "stages points"]
    cumulative: Float[np.ndarray, "stages intervals"]
    gap: Float[np.ndarray, "stages intervals"]

    @staticmethod
    def from_curriculum(
        curriculum: AbstractCurriculum,
        law: AbstractLevelLaw,
        *,
        sigma_min: float = SIGMA_MIN,
        sigma_max: float = SIGMA_MAX,
        rho: float = RHO,
    ) -> "LevelTable":
        """The tables of every stage of `curriculum` on Karras grids.

        Raises:
            ValueError: for wrong levels, or a law that does not give each interval a probability.
        """
        stages, points = len(curriculum.points), max(curriculum.points)
        grid = np.full((stages, points), sigma_max, np.float32)
        cumulative = np.full((stages, points - 1), np.inf, np.float32)
        gap = np.full((stages, points - 1), sigma_max - sigma_min, np.float32)
        for i, n in enumerate(curriculum.points):
            exact = karras_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
            probabilities = law.probabilities(exact)
            _check_probabilities(probabilities, n - 1)
            grid[i, :n] = exact
            gap[i, : n - 1] = np.diff(exact)
            cumulative[i, : n - 2] = np.cumsum(probabilities)[:-1]
        return LevelTable(grid, cumulative, gap)

    @property
    def sigma_min(self) -> Scalar:
        """The grids' first point."""
        return jnp.asarray(self.grid[0, 0])

    @property
    def sigma_max(self) -> Scalar:
        """The grids' last point."""
        return jnp.asarray(self.grid[0, -1])

    def draw(self, stage: Step, u: Scalar) -> LevelPair:
        """The pair of levels around the interval in which `u`, uniform in [0, 1), falls at `stage`."""
        cumulative, grid, gap = (jnp.asarray(table)[stage] for table in (self.cumulative, self.grid, self.gap))
        interval = jnp.searchsorted(cumulative, u, side="right", method="compare_all")
        return LevelPair(t=grid[interval + 1], r=grid[interval], gap=gap[interval])


def _check_probabilities(found: np.ndarray, intervals: int) -> None:
    if found.shape != (intervals,):
        raise ValueError(f"law: expected {intervals} probabilities, found shape {found.shape}")
    if not (np.all(found >= 0) and abs(found.sum() - 1) < 1e-9):
        raise ValueError(f"law: expected probabilities >= 0 of sum 1, found sum {found.sum()}, least {found.min()}")


def stratified(count: int, *, key: Key) -> Float[Array, " batch"]:
    """One uniform number in each of `count` equal slices of [0, 1), ascending: each alone is not uniform, all are.

    Any average over them has at most the variance of independent draws, and mostly far less.
    """
    u = jnp.arange(count, dtype=jnp.float32) / count + independent(count, key=key) / count
    return jnp.minimum(u, 1 - jnp.finfo(u.dtype).epsneg)  # the last sum may round to 1


def independent(count: int, *, key: Key) -> Float[Array, " batch"]:
    """`count` independent uniform numbers in [0, 1), float32."""
    return jr.uniform(key, (count,), jnp.float32)
