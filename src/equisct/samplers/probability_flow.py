"""Sampling with a denoiser: fixed-step solvers of the PF-ODE, optionally with churn (Karras et al. 2022, Algorithm 2).

A grid of n levels makes n steps: n - 1 between its levels, and a last one to level 0, which returns the denoiser's
output. With a boundary-preconditioned denoiser (`denoise(x_t, sigma_min) = x_t`) that last step is the identity.
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import PyTree

from .._base.check import check_at_least
from .._base.defaults import KARRAS_POINTS
from .._base.dtypes import float32_or_wider
from .._base.types import Denoiser, Key, Levels, Sample, Scalar
from ..diffusion import euler_step, heun_step, pf_drift
from ..discretization import karras_grid
from .interface import AbstractLevelSampler, Walk, descending_levels, in_precision_of, level_array, method_of

EDM_LEVELS = descending_levels(karras_grid(KARRAS_POINTS)[::-1])


class Churn(eqx.Module):
    """Fresh noise before each step whose level lies in [sigma_low, sigma_high] (Karras et al. 2022, Algorithm 2).

    Args:
        amount: S_churn; n levels raise the level by a factor `1 + min(amount / n, sqrt(2) - 1)` per step. 0 is off.
        sigma_low: S_min.
        sigma_high: S_max.
        noise: S_noise, standard deviation of the fresh noise in units of what keeps the level exact.
    """

    amount: float = 0.0
    sigma_low: float = 0.0
    sigma_high: float = math.inf
    noise: float = 1.0

    def __check_init__(self) -> None:
        check_at_least("amount", self.amount, 0)
        check_at_least("sigma_low", self.sigma_low, 0)
        check_at_least("noise", self.noise, 0)
        if not self.sigma_high >= self.sigma_low:
            raise ValueError(f"sigma_high: expected >= sigma_low = {self.sigma_low}, found {self.sigma_high}")


def heun(
    denoise: Denoiser,
    z: Sample,
    *,
    levels: Levels | None = None,
    churn: Churn | None = None,
    key: Key | None = None,
) -> Sample:
    """Heun's second-order solver, the EDM sampler: 2 points - 1 evaluations of `denoise`.

    Args:
        denoise: posterior mean.
        z: unit Gaussian noise; the path starts at `levels[0] z`.
        levels: strictly descending, > 0; by default 18 points of the Karras grid from 80 to 0.002 with rho = 7.
        churn: fresh noise on the way; None solves the ODE, without randomness.
        key: for the churn.

    Raises:
        ValueError: levels known before tracing are out of order or not > 0; churn without a key.
    """
    return _solve(heun_step, denoise, z, levels, churn, key)


def euler(
    denoise: Denoiser,
    z: Sample,
    *,
    levels: Levels | None = None,
    churn: Churn | None = None,
    key: Key | None = None,
) -> Sample:
    """Euler's first-order solver: as `heun`, with one evaluation of `denoise` per level."""
    return _solve(_euler, denoise, z, levels, churn, key)


def _euler(denoise: Denoiser, x_t: Sample, t: Scalar, r: Scalar) -> Sample:
    return euler_step(x_t, pf_drift(denoise(x_t, t), x_t, t), t, r)


Step = Callable[[Denoiser, Array, Array, Array], Array]


def _solve(
    step: Step, denoise: Denoiser, z: Sample, levels: Levels | None, churn: Churn | None, key: Key | None
) -> Array:
    z = jnp.asarray(z)
    grid = jnp.asarray(level_array(EDM_LEVELS if levels is None else levels)).astype(float32_or_wider(z.dtype))
    return _walk(step, denoise, grid[0].astype(z.dtype) * z, grid, churn, key, keep=False)[0]


def _walk(
    step: Step, denoise: Denoiser, x_t: Array, grid: Array, churn: Churn | None, key: Key | None, *, keep: bool
) -> Walk:
    churn = Churn() if churn is None else churn
    if churn.amount > 0 and key is None:
        raise ValueError(f"key: expected a key, because churn.amount = {churn.amount}, found None")
    denoise = in_precision_of(x_t, denoise)
    keys = None if churn.amount == 0 or key is None else jr.split(key, grid.size)

    def one_step(x_t: Array, inputs: tuple[Array, Array, Key | None]) -> tuple[Array, Array | None]:
        t, r, noise_key = inputs
        lifted, t = _lift(churn, grid.size, x_t, t, noise_key)
        return step(denoise, lifted, t, r).astype(x_t.dtype), x_t if keep else None

    body_keys, last_key = (None, None) if keys is None else (keys[:-1], keys[-1])
    x_t, path = jax.lax.scan(one_step, x_t, (grid[:-1], grid[1:], body_keys))
    lifted, t = _lift(churn, grid.size, x_t, grid[-1], last_key)
    x = denoise(lifted, t)  # the Euler step to level 0: x_t + (0 - t) (x_t - denoised) / t
    return x, [path, x_t]


def _lift(churn: Churn, points: int, x_t: Array, t: Array, noise_key: Key | None) -> tuple[Array, Array]:
    """The sample with fresh noise, and its new level."""
    if noise_key is None:
        return x_t, t
    factor = 1 + min(churn.amount / points, math.sqrt(2) - 1)
    lifted = jnp.where((churn.sigma_low <= t) & (t <= churn.sigma_high), factor * t, t)
    scaling = churn.noise * jnp.sqrt((lifted - t) * (lifted + t))
    return x_t + scaling.astype(x_t.dtype) * jr.normal(noise_key, x_t.shape, x_t.dtype), lifted


class AbstractSolver(AbstractLevelSampler):
    """A fixed-step solver of the PF-ODE; arguments as those of `Heun`."""

    levels: tuple[float, ...] = eqx.field(static=True, converter=descending_levels, default=EDM_LEVELS)
    churn: Churn | None = None

    @property
    def name(self) -> str:
        """`heun-18`, `euler-18` of 18 levels."""
        return f"{type(self).__name__.lower()}-{len(self.levels)}"

    @abc.abstractmethod
    def step(self, denoise: Denoiser, x_t: Sample, t: Scalar, r: Scalar) -> Sample:
        """From level `t` to level `r`."""

    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """See `AbstractSampler`.

        Raises:
            ValueError: for churn without a key.
        """
        grid = jnp.asarray(self.levels, float32_or_wider(x_t.dtype))
        return _walk(self.step, method_of(model, "denoise"), x_t, grid, self.churn, key, keep=keep)


class Heun(AbstractSolver):
    """`heun` as a module, EDM's sampler: 2 levels - 1 evaluations of `model.denoise`; levels and churn as there.

    Begun at another level, the churn's amount is shared among the levels that are left.
    """

    def step(self, denoise: Denoiser, x_t: Sample, t: Scalar, r: Scalar) -> Sample:
        """See `equisct.heun_step`."""
        return heun_step(denoise, x_t, t, r)


class Euler(AbstractSolver):
    """`euler` as a module: one evaluation of `model.denoise` per level; arguments as those of `Heun`."""

    def step(self, denoise: Denoiser, x_t: Sample, t: Scalar, r: Scalar) -> Sample:
        """See `equisct.euler_step`."""
        return _euler(denoise, x_t, t, r)
