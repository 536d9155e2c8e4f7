"""Sampling with a consistency function: one jump from noise, or several with fresh noise in between.

Notation: `endpoint(x_t, sigma)` is where the PF-ODE path through `x_t` ends, `z` unit Gaussian noise.
"""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import PyTree

from .._base.check import check_positive
from .._base.concrete import concrete
from .._base.defaults import SIGMA_MAX, SIGMA_MIN
from .._base.dtypes import float32_or_wider
from .._base.types import Denoiser, Key, Level, Levels, Sample, Scalar
from .interface import AbstractLevelSampler, Walk, descending_levels, in_precision_of, level_array, method_of

Renoise: TypeAlias = Callable[[Level, Level], Array]
"""`(tau, sigma_min) -> scaling` of the noise that lifts a sample at level `sigma_min` to level `tau`."""


def renoise_to_level(tau: Level, sigma_min: Level) -> Scalar:
    """`sqrt(tau^2 - sigma_min^2)`: the total level is `tau` exactly (CM paper, Algorithm 1)."""
    return jnp.sqrt((tau - sigma_min) * jnp.asarray(tau + sigma_min))


def renoise_full(tau: Level, sigma_min: Level) -> Scalar:
    """`tau`: treats the sample as clean (ECT's sampler)."""
    del sigma_min
    return jnp.asarray(tau)


def one_step(endpoint: Denoiser, z: Sample, *, sigma_max: float = SIGMA_MAX) -> Sample:
    """`endpoint(sigma_max z, sigma_max)`: one evaluation."""
    z = jnp.asarray(z)
    return in_precision_of(z, endpoint)(sigma_max * z, sigma_max)


def multistep(
    endpoint: Denoiser,
    z: Sample,
    levels: Levels,
    *,
    key: Key,
    sigma_min: float = SIGMA_MIN,
    renoise: Renoise = renoise_to_level,
    clip: float | None = None,
) -> Sample:
    """Jump to the end, add noise, jump again (CM paper, Algorithm 1); one evaluation per level.

    Args:
        endpoint: consistency function.
        z: unit Gaussian noise.
        levels: strictly descending, all >= `sigma_min`; `z` starts at the first, each further one is a renoising.
        key: for the renoising; not used with one level.
        sigma_min: level of what `endpoint` returns.
        renoise: scaling of the fresh noise; `renoise_to_level` or `renoise_full`.
        clip: clamps the sample to [-clip, clip] before each renoising (the last sample is left as it is).

    Raises:
        ValueError: levels known before tracing are out of order or below `sigma_min`; `clip` <= 0.
    """
    z, known = jnp.asarray(z), level_array(levels)
    _check(known, sigma_min, clip)
    grid = jnp.asarray(known).astype(float32_or_wider(z.dtype))
    return _jump(endpoint, grid[0].astype(z.dtype) * z, grid, key, sigma_min, renoise, clip)[0]


def _jump(
    endpoint: Denoiser,
    x_t: Array,
    levels: Array,
    key: Key | None,
    sigma_min: float,
    renoise: Renoise,
    clip: float | None,
) -> Walk:
    endpoint = in_precision_of(x_t, endpoint)
    path, x = [x_t], endpoint(x_t, levels[0])
    keys = [] if key is None else jr.split(key, levels.size - 1)
    for tau, noise_key in zip(levels[1:], keys, strict=True):
        x = x if clip is None else jnp.clip(x, -clip, clip)
        path.append(x + renoise(tau, sigma_min).astype(x.dtype) * jr.normal(noise_key, x.shape, x.dtype))
        x = endpoint(path[-1], tau)
    return x, path


class Multistep(AbstractLevelSampler):
    """`multistep` as a module, with its settings: one step from the first level alone, two with another, and so on.

    It evaluates `model.endpoint` once per level.
    """

    levels: tuple[float, ...] = eqx.field(static=True, converter=descending_levels, default=(SIGMA_MAX,))
    sigma_min: float = eqx.field(static=True, default=SIGMA_MIN)
    renoise: Renoise = eqx.field(static=True, default=renoise_to_level)
    clip: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _check(np.array(self.levels), self.sigma_min, self.clip)

    @property
    def name(self) -> str:
        """`one-step`, `two-step`, `multistep-3` and so on."""
        count = len(self.levels)
        return {1: "one-step", 2: "two-step"}.get(count, f"multistep-{count}")

    def walk(self, model: PyTree, x_t: Sample, key: Key | None, *, keep: bool) -> Walk:
        """See `AbstractSampler`.

        Raises:
            ValueError: for more than one level without a key.
        """
        del keep  # so few that they are always kept
        if len(self.levels) > 1 and key is None:
            raise ValueError(f"key: expected a key for the fresh noise of {len(self.levels)} levels, found None")
        levels = jnp.asarray(self.levels, float32_or_wider(x_t.dtype))
        return _jump(method_of(model, "endpoint"), x_t, levels, key, self.sigma_min, self.renoise, self.clip)


def _check(levels: Array | np.ndarray, sigma_min: float, clip: float | None) -> None:
    if clip is not None:
        check_positive("clip", clip)
    found = concrete(levels)
    if found is not None and found[-1] < np.asarray(sigma_min, found.dtype):
        raise ValueError(f"levels: expected levels >= sigma_min = {sigma_min}, found {found[-1]}")
