"""Drawing samples from a model by a sampler, in chunks that fit in memory."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._base.random import draw_start
from ..._base.types import Key
from ...samplers import AbstractSampler

CHUNK = 256


@eqx.filter_jit
def _draw_chunk(sampler: AbstractSampler, model: Any, shape: tuple[int, ...], key: Key, indices: Array) -> Array:
    def one(index: Array) -> Array:
        z, sampler_key = draw_start(shape, index, key=key)
        return sampler(model, z, key=sampler_key)

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
