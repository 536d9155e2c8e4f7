"""Drawing samples from a model by a sampler, in chunks that fit in memory."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array

from ..._base.types import Key
from ...samplers import AbstractSampler

CHUNK = 256


@eqx.filter_jit
def _draw_chunk(sampler: AbstractSampler, model: Any, shape: tuple[int, ...], keys: Key) -> Array:
    def one(key: Key) -> Array:
        z_key, sampler_key = jr.split(key)
        return sampler(model, jr.normal(z_key, shape), key=sampler_key)

    return jax.vmap(one)(keys)


def draw_noise(shape: tuple[int, ...], n: int, *, key: Key) -> np.ndarray:
    """The unit Gaussian noise that the `n` samples of `draw_samples` start from, `(n, *shape)`."""
    one = lambda i: jr.normal(jr.split(jr.fold_in(key, i))[0], shape)  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(n)))


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
    padded = -(-n // chunk) * chunk
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.arange(padded))
    chunks = []
    for i in range(0, padded, chunk):
        between()
        chunks.append(np.asarray(_draw_chunk(sampler, model, shape, keys[i : i + chunk])))
    return np.concatenate(chunks)[:n]
