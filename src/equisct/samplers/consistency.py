"""Sampling with a consistency function: one jump from noise, or several with fresh noise in between.

Notation: `endpoint(x_t, sigma)` is where the PF-ODE path through `x_t` ends, `z` unit Gaussian noise.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.check import check_positive
from .._base.concrete import check_array, concrete
from .._base.types import Denoiser, Key, Level, Sample, Scalar

Renoise: TypeAlias = Callable[[Level, Level], Array]
"""`(tau, sigma_min) -> scaling` of the noise that lifts a sample at level `sigma_min` to level `tau`."""


def renoise_to_level(tau: Level, sigma_min: Level) -> Scalar:
    """`sqrt(tau^2 - sigma_min^2)`: the total level is `tau` exactly (CM paper, Algorithm 1)."""
    return jnp.sqrt((tau - sigma_min) * jnp.asarray(tau + sigma_min))


def renoise_full(tau: Level, sigma_min: Level) -> Scalar:
    """`tau`: treats the sample as clean (ECT's sampler)."""
    del sigma_min
    return jnp.asarray(tau)


def one_step(endpoint: Denoiser, z: Sample, *, sigma_max: float = 80.0) -> Sample:
    """`endpoint(sigma_max z, sigma_max)`: one evaluation."""
    return endpoint(sigma_max * z, sigma_max)


def multistep(
    endpoint: Denoiser,
    z: Sample,
    levels: Float[Array, "steps"],
    *,
    key: Key,
    sigma_min: float = 0.002,
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
    _check_levels(levels, sigma_min)
    if clip is not None:
        check_positive("clip", clip)
    levels = levels.astype(jnp.promote_types(z.dtype, jnp.float32))
    x = endpoint(levels[0] * z, levels[0])
    for tau, noise_key in zip(levels[1:], jr.split(key, levels.size - 1), strict=True):
        x = x if clip is None else jnp.clip(x, -clip, clip)
        x = endpoint(x + renoise(tau, sigma_min) * jr.normal(noise_key, x.shape, x.dtype), tau)
    return x


def _check_levels(levels: Array, sigma_min: float) -> None:
    check_array("levels", levels, positive=True)
    found = concrete(levels)
    if found is None:
        return
    if not np.all(np.diff(found) < 0):
        raise ValueError(f"levels: expected strictly descending levels, found {found}")
    if found[-1] < np.asarray(sigma_min, found.dtype):
        raise ValueError(f"levels: expected levels >= sigma_min = {sigma_min}, found {found[-1]}")
