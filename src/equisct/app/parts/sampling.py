"""The samplers that the settings describe, and drawing from a model by one, in chunks that fit in memory."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._base.random import draw_start
from ..._base.types import Key
from ...discretization import karras_grid
from ...samplers import AbstractSampler, Euler, Heun, Multistep
from ..settings.config import Config, Noise
from .conditions import Conditions

CHUNK = 256
"""Samples drawn at a time."""


def jumps(config: Config) -> tuple[Multistep, Multistep]:
    """Consistency sampling in one and in two steps."""
    return jump((), config.noise), jump((config.sample.mid_sigma,), config.noise)


def jump(levels: tuple[float, ...], noise: Noise) -> Multistep:
    """Consistency sampling from `noise.sigma_max` through `levels`; with none, one step."""
    return Multistep((noise.sigma_max, *levels), noise.sigma_min)


def heun(steps: int, noise: Noise) -> Heun:
    """Heun's method on a Karras grid of `steps` levels: `2 steps - 1` evaluations."""
    return Heun(karras_grid(steps, **noise.grid)[::-1])


def euler(steps: int, noise: Noise) -> Euler:
    """Euler's method on all but the lowest level of a Karras grid of `steps + 1`, the last step to 0: `steps` steps.

    These are the levels of a student of progressive distillation.
    """
    return Euler(karras_grid(steps + 1, **noise.grid)[:0:-1])


@eqx.filter_jit
def _draw_chunk(
    sampler: AbstractSampler, model: Any, shape: tuple[int, ...], key: Key, indices: Array, told: Conditions | None
) -> Array:
    def one(index: Array) -> Array:
        z, sampler_key = draw_start(shape, index, key=key)
        return sampler(model if told is None else told.bind(model, index), z, key=sampler_key)

    return jax.vmap(one)(indices)


def draw_noise(shape: tuple[int, ...], n: int, *, key: Key) -> np.ndarray:
    """The unit Gaussian noise that the `n` samples of `draw_samples` start from, `(n, *shape)`."""
    return np.asarray(jax.jit(jax.vmap(lambda i: draw_start(shape, i, key=key)[0]))(jnp.arange(n)))


def draw_samples(
    sampler: AbstractSampler,
    model: Any,
    shape: tuple[int, ...],
    n: int,
    *,
    key: Key,
    conditions: Conditions | None = None,
    between: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """`n` samples of `shape`; sample i depends on the key and i alone, so all samplers start from the same noise.

    `conditions` are what they are drawn under; None for no condition, of a model that takes some too. `between` is
    called before each chunk; it may raise to stop.
    """
    chunk = min(n, CHUNK)
    model = jax.device_get(model)  # one program for the weights on a run's mesh and for those of its checkpoint
    chunks = []
    for i in range(0, n, chunk):
        between()
        chunks.append(np.asarray(_draw_chunk(sampler, model, shape, key, jnp.arange(i, i + chunk), conditions)))
    return np.concatenate(chunks)[:n]
