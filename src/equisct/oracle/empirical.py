"""A finite data set as a distribution: what a network that has memorised its training set would compute."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.concrete import check_array
from .._base.types import Key, Level, Scalar
from ..diffusion import score_from_denoised
from .abstract import AbstractOracle


def _square_distances(x_t: Float[Array, "*shape"], points: Float[Array, "n *shape"]) -> Float[Array, "n"]:
    return jnp.sum(jnp.square(x_t[None] - points), axis=range(1, points.ndim))


class Empirical(AbstractOracle):
    """Equal point masses on a data set; every level must be > 0.

    One evaluation reads the whole data set: n times the size of a sample, times the batch under `jax.vmap`.

    Args:
        points: the data set, one sample per row.
    """

    points: Float[Array, "n *shape"]

    def __check_init__(self) -> None:
        check_array("points", self.points)

    def log_joint(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "n"]:
        """`log Normal(x_t; points_i, sigma^2 I) / n`, per point."""
        n, size = self.points.shape[0], x_t.size
        squares = _square_distances(x_t, self.points)
        return -squares / (2 * sigma**2) - size / 2 * jnp.log(2 * math.pi * sigma**2) - math.log(n)

    def posterior(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "n"]:
        """The probability of each point given `x_t`: the softmax of `-|x_t - points_i|^2 / (2 sigma^2)`."""
        return jax.nn.softmax(self.log_joint(x_t, sigma))

    def log_prob(self, x_t: Float[Array, "*shape"], sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`."""
        return jax.nn.logsumexp(self.log_joint(x_t, sigma))

    def denoise(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "*shape"]:
        """The posterior mean: the points, averaged by `posterior`."""
        return jnp.tensordot(self.posterior(x_t, sigma), self.points, axes=1, precision="highest")

    def score(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "*shape"]:
        """`grad log p_sigma(x_t)`."""
        return score_from_denoised(self.denoise(x_t, sigma), x_t, sigma)

    def sample(self, *, key: Key) -> Float[Array, "..."]:
        """One of the points."""
        return self.points[jr.randint(key, (), 0, self.points.shape[0])]
