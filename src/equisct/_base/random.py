"""Random arrays drawn flat, then reshaped: the same bits, but compiling a draw of many axes costs seconds on a CPU.

Their dtype is stated, so that they are the same with 64-bit arithmetic switched on.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import ArrayLike, Int

from .dtypes import float32_or_wider
from .types import Key


def draw_normal(shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, key: Key) -> Array:
    """Unit Gaussian noise, drawn in float32 or better."""
    drawn = jr.normal(key, (math.prod(shape),), float32_or_wider(dtype))
    return drawn.reshape(shape).astype(dtype)


def draw_start(shape: Sequence[int], index: Int[ArrayLike, ""], *, key: Key) -> tuple[Array, Key]:
    """The unit Gaussian noise (float32) that the sample of this number starts from, and the key for its sampler."""
    z_key, sampler_key = jr.split(jr.fold_in(key, index))
    return jr.normal(z_key, shape, jnp.float32), sampler_key


def draw_uniform(shape: Sequence[int], *, bound: float, key: Key) -> Array:
    """Uniform on `(-bound, bound)`, float32; drawn in powers of two: a whole network compiles a dozen draws."""
    size = math.prod(shape)
    padded = 1 << (size - 1).bit_length()
    return bound * jr.uniform(key, (padded,), jnp.float32, minval=-1.0, maxval=1.0)[:size].reshape(shape)


def draw_bernoulli(shape: Sequence[int], *, probability: float, key: Key) -> Array:
    """True with `probability`."""
    return jr.bernoulli(key, jnp.float32(probability), (math.prod(shape),)).reshape(shape)
