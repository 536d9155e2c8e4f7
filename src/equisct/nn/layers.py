"""Layers of the U-Nets on one channels-last sample `(height, width, channels)`: linear, convolution, norms, dropout.

Initialisation is uniform Xavier, `U(-a, a)` with `a = gain sqrt(6 / (fan_in + fan_out))`, fans counting the kernel's
area; biases 0, norm scales 1. Norms have epsilon 1e-6.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._base.check import check_fraction
from .._base.dtypes import common, float32_or_wider
from .._base.random import draw_bernoulli, draw_uniform
from .._base.types import Key
from ._conv import conv2d

SMALL = 1e-5
"""Gain of the layers that start near zero (second convolution, attention output, final convolution)."""


def at_least_float32(x: Array) -> Array:
    """The array in float32, or in its own precision where that is higher: statistics are never taken in bfloat16."""
    return x.astype(float32_or_wider(x.dtype))


def add_to_channels(x: Float[Array, "*axes c"], values: Float[Array, " c"]) -> Float[Array, "*axes c"]:
    """One number added to each channel; said in full, for whoever runs JAX with rank promotion as an error."""
    return x + jnp.broadcast_to(values, x.shape)


def xavier(shape: Sequence[int], gain: float, *, key: Key) -> Array:
    """Uniform Xavier weights; the last two axes are inputs and outputs, those before are the kernel's area."""
    area = math.prod(shape[:-2])
    return draw_uniform(shape, bound=gain * math.sqrt(6 / (area * (shape[-2] + shape[-1]))), key=key)


class Linear(eqx.Module):
    """`x @ weight + bias` over the last axis; on images, a 1x1 convolution."""

    weight: Float[Array, "c_in c_out"]
    bias: Float[Array, " c_out"]

    def __init__(self, c_in: int, c_out: int, *, gain: float = 1.0, key: Key):
        self.weight = xavier((c_in, c_out), gain, key=key)
        self.bias = jnp.zeros(c_out, jnp.float32)

    def __call__(self, x: Float[Array, "*axes c_in"]) -> Float[Array, "*axes c_out"]:
        return add_to_channels(x @ self.weight, self.bias)


class Conv(eqx.Module):
    """A 3x3 convolution with bias, stride 1; `padding` 1 keeps the size."""

    weight: Float[Array, "3 3 c_in c_out"]
    bias: Float[Array, " c_out"]
    padding: int = eqx.field(static=True)

    def __init__(self, c_in: int, c_out: int, *, gain: float = 1.0, padding: int = 1, key: Key):
        self.weight = xavier((3, 3, c_in, c_out), gain, key=key)
        self.bias = jnp.zeros(c_out, jnp.float32)
        self.padding = padding

    def __call__(self, x: Float[Array, "h w c_in"]) -> Float[Array, "h2 w2 c_out"]:
        dtype = common(x.dtype, self.weight.dtype)  # float64 samples, say, with float32 weights
        return add_to_channels(conv2d(x.astype(dtype), self.weight.astype(dtype), padding=self.padding), self.bias)


class GroupNorm(eqx.Module):
    """Group normalisation (Wu & He 2018) over space and `channels / groups` channels, `min(32, channels / 4)` groups.

    Raises:
        ValueError: if the channels cannot be divided into that many equal groups.
    """

    scale: Float[Array, " c"]
    shift: Float[Array, " c"]
    groups: int = eqx.field(static=True)

    def __init__(self, channels: int):
        self.groups = max(1, min(32, channels // 4))
        if channels % self.groups:
            raise ValueError(f"channels: expected a multiple of {self.groups} for group norm, found {channels}")
        self.scale, self.shift = jnp.ones(channels, jnp.float32), jnp.zeros(channels, jnp.float32)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        dtype, x = x.dtype, at_least_float32(x)
        # Space first, then the channels of a group: both reductions run along contiguous channels.
        mean = self._mean_of_groups(x.mean((0, 1)))
        scale, shift = at_least_float32(self.scale), at_least_float32(self.shift)
        centred = add_to_channels(x, -mean)
        variance = self._mean_of_groups(jnp.square(centred).mean((0, 1)))
        factor = jnp.broadcast_to(jax.lax.rsqrt(variance + 1e-6) * scale, x.shape)
        return add_to_channels(centred * factor, shift).astype(dtype)

    def _mean_of_groups(self, value: Float[Array, " c"]) -> Float[Array, " c"]:
        groups = value.reshape(self.groups, -1)
        return jnp.broadcast_to(groups.mean(1, keepdims=True), groups.shape).reshape(-1)


class LayerNorm(eqx.Module):
    """Layer normalisation over the last axis, at every pixel of an image."""

    scale: Float[Array, " c"]
    shift: Float[Array, " c"]

    def __init__(self, channels: int):
        self.scale, self.shift = jnp.ones(channels, jnp.float32), jnp.zeros(channels, jnp.float32)

    def __call__(self, x: Float[Array, "*axes c"]) -> Float[Array, "*axes c"]:
        dtype, x = x.dtype, at_least_float32(x)
        scale, shift = at_least_float32(self.scale), at_least_float32(self.shift)
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        factor = jnp.broadcast_to(scale, x.shape)
        return add_to_channels(centred * jax.lax.rsqrt(variance + 1e-6) * factor, shift).astype(dtype)


def dropout(x: Float[Array, "*shape"], rate: float, *, key: Key | None) -> Float[Array, "*shape"]:
    """Zeroes each element with probability `rate` and rescales the rest; the identity where `key` is None.

    Raises:
        ValueError: if `rate` is outside [0, 1).
    """
    check_fraction("dropout", rate)
    if key is None or rate == 0:
        return x
    keep = draw_bernoulli(x.shape, probability=1 - rate, key=key)
    return jnp.where(keep, x / (1 - rate), 0)
