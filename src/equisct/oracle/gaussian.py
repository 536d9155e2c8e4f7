"""One Gaussian with independent coordinates: the simplest law with a closed-form flow map."""

import math
from typing import TYPE_CHECKING, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import ArrayLike, Float

from .._base.concrete import check_array
from .._base.types import Key, Level, Sample, Scalar
from .abstract import AbstractTransportOracle

if TYPE_CHECKING:
    Parameter: TypeAlias = float | Array
else:
    Parameter: TypeAlias = Float[ArrayLike, "..."] | int


class Gaussian(AbstractTransportOracle):
    """Normal(mean, std^2), each a number or an array that broadcasts to the sample's shape.

    `denoise`, `score` and `transport` are element-wise: with numbers for `mean` and `std` they also take a batch.

    Args:
        mean: the mean.
        std: the standard deviation, > 0.
        shape: the shape that `sample` draws, broadcast with those of `mean` and `std`; no other method needs it.
    """

    mean: Parameter = 0.0
    std: Parameter = 1.0
    shape: tuple[int, ...] = eqx.field(default=(), static=True)

    def __check_init__(self) -> None:
        check_array("mean", self.mean)
        check_array("std", self.std, positive=True)

    def denoise(self, x_t: Sample, sigma: Level) -> Sample:
        """The posterior mean: `mean + std^2 / (std^2 + sigma^2) (x_t - mean)`."""
        return self.mean + self.std**2 / (self.std**2 + sigma**2) * (x_t - self.mean)

    def posterior_covariance(self, x_t: Sample, sigma: Level) -> Float[Array, "size size"]:
        """The posterior covariance: diagonal, `std^2 sigma^2 / (std^2 + sigma^2)`, wherever `x_t` is."""
        variance = self.std**2 * sigma**2 / (self.std**2 + sigma**2)
        return jnp.diag(jnp.broadcast_to(jnp.asarray(variance, x_t.dtype), x_t.shape).reshape(-1))

    def score(self, x_t: Sample, sigma: Level) -> Sample:
        """`-(x_t - mean) / (std^2 + sigma^2)`."""
        return -(x_t - self.mean) / (self.std**2 + sigma**2)

    def log_prob(self, x_t: Sample, sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`, summed over the coordinates of one sample."""
        variance = self.std**2 + sigma**2
        return -jnp.sum(jnp.square(x_t - self.mean) / variance + jnp.log(2 * math.pi * variance)) / 2

    def sample(self, *, key: Key) -> Float[Array, "..."]:
        """One clean sample of the broadcast shape of `mean`, `std` and `shape`."""
        shape = jnp.broadcast_shapes(jnp.shape(self.mean), jnp.shape(self.std), self.shape)
        return self.mean + self.std * jr.normal(key, shape)

    def transport(self, x_t: Sample, t: Level, r: Level) -> Sample:
        """The flow map: `mean + sqrt((std^2 + r^2) / (std^2 + t^2)) (x_t - mean)`."""
        return self.mean + jnp.sqrt((self.std**2 + r**2) / (self.std**2 + t**2)) * (x_t - self.mean)
