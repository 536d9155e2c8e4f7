"""Drawing samples from a trained pair with each of its samplers, in chunks that fit in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._base.random import draw_start
from ..._base.types import Key
from ...discretization import karras_grid
from ...samplers.consistency import multistep
from ...samplers.probability_flow import euler, heun
from ...samplers.vp import ancestral, ddim
from ...variance_preserving import VPSchedule
from ..settings.config import Noise

CHUNK = 256

Sampler = Callable[[Any, Array, Key], Array]
"""`(model, z, key) -> sample`, one at a time."""


def consistency_sampler(levels: Sequence[float], noise: Noise) -> Sampler:
    """Multistep consistency sampling from `noise.sigma_max` through `levels`; with none, one step."""
    whole = jnp.array([noise.sigma_max, *levels])
    return lambda model, z, key: multistep(model.endpoint, z, whole, key=key, sigma_min=noise.sigma_min)


def heun_sampler(steps: int, noise: Noise) -> Sampler:
    """Heun's method on a Karras grid of `steps` levels: `2 steps - 1` evaluations."""
    grid = karras_grid(steps, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max, rho=noise.rho)
    levels = jnp.asarray(grid[::-1].copy(), jnp.float32)
    return lambda model, z, key: heun(model.denoise, z, levels=levels)


def euler_sampler(steps: int, noise: Noise) -> Sampler:
    """Euler's method on all but the lowest level of a Karras grid of `steps + 1`, the last step to 0: `steps` steps.

    These are the levels of a student of progressive distillation.
    """
    grid = karras_grid(steps + 1, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max, rho=noise.rho)
    levels = jnp.asarray(grid[:0:-1].copy(), jnp.float32)
    return lambda model, z, key: euler(model.denoise, z, levels=levels)


def ddim_sampler(steps: int) -> Sampler:
    """DDIM without fresh noise on `steps` times of DDPM's schedule, quadratically spaced: one evaluation each."""
    times = VPSchedule().quadratic(steps)
    return lambda model, z, key: ddim(model.denoise, z, times=times)


def ancestral_sampler() -> Sampler:
    """DDPM's ancestral sampling, which clamps images: 1000 evaluations."""
    return lambda model, z, key: ancestral(model.denoise, z, key=key, clip=1.0 if z.ndim == 3 else None)


def remembered(samplers: Callable[[int], dict[str, Sampler]]) -> Callable[[int], dict[str, Sampler]]:
    """The same function for a title at every call, so that a program made of it is compiled once."""
    seen: dict[str, Sampler] = {}
    return lambda step: {title: seen.setdefault(title, sampler) for title, sampler in samplers(step).items()}


@eqx.filter_jit
def _draw_chunk(sampler: Sampler, model: Any, shape: tuple[int, ...], key: Key, indices: Array) -> Array:
    return jax.vmap(lambda i: sampler(model, *draw_start(shape, i, key=key)))(indices)


def draw_noise(shape: tuple[int, ...], n: int, *, key: Key) -> np.ndarray:
    """The unit Gaussian noise that the `n` samples of `draw_samples` start from, `(n, *shape)`."""
    return np.asarray(jax.jit(jax.vmap(lambda i: draw_start(shape, i, key=key)[0]))(jnp.arange(n)))


def draw_samples(
    sampler: Sampler,
    model: Any,
    shape: tuple[int, ...],
    n: int,
    *,
    key: Key,
    between: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """`n` samples of `shape`; sample i depends on the key and i alone, so all samplers start from the same noise.

    `between` is called before each chunk; it may raise to stop.
    """
    chunk = min(n, CHUNK)
    chunks = []
    for i in range(0, n, chunk):
        between()
        chunks.append(np.asarray(_draw_chunk(sampler, model, shape, key, jnp.arange(i, i + chunk))))
    return np.concatenate(chunks)[:n]
