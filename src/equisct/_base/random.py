"""Random arrays drawn flat, then reshaped: the same bits, but compiling a draw of many axes costs seconds on a CPU."""

import math
from collections.abc import Sequence

import jax.random as jr
from jax import Array
from jaxtyping import ArrayLike, Int

from .types import Key


def draw_normal(shape: Sequence[int], *, key: Key) -> Array:
    """Unit Gaussian noise."""
    return jr.normal(key, (math.prod(shape),)).reshape(shape)


def draw_start(shape: Sequence[int], index: Int[ArrayLike, ""], *, key: Key) -> tuple[Array, Key]:
    """The unit Gaussian noise that the sample of this number starts from, and the key for its sampler."""
    z_key, sampler_key = jr.split(jr.fold_in(key, index))
    return jr.normal(z_key, shape), sampler_key


def draw_uniform(shape: Sequence[int], *, bound: float, key: Key) -> Array:
    """Uniform on `(-bound, bound)`; drawn in powers of two, so that a whole network compiles a dozen draws."""
    size = math.prod(shape)
    padded = 1 << (size - 1).bit_length()
    return bound * jr.uniform(key, (padded,), minval=-1.0, maxval=1.0)[:size].reshape(shape)


def draw_bernoulli(shape: Sequence[int], *, probability: float, key: Key) -> Array:
    """True with `probability`."""
    return jr.bernoulli(key, probability, (math.prod(shape),)).reshape(shape)
