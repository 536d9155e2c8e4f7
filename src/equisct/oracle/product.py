"""Rotated products of one mixture on the line: multi-modal laws in any dimension whose flow map is in closed form."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.concrete import check_array, concrete
from .._base.types import Key, Level, Scalar
from .abstract import AbstractTransportOracle, Std, check_modes
from .mixture import GaussianMixture
from .monotone import monotone_map


class ProductMixture(AbstractTransportOracle):
    """`x = rotation y`, with the coordinates of `y` independent draws from one mixture on the line.

    Unlike for a general mixture the flow map is exact, `F_r^{-1}(F_t(y))` per coordinate: the law to test against.

    Args:
        means: the modes on the line.
        std: standard deviation of every mode, or one per mode; > 0.
        rotation: orthogonal; its size is the dimension of `x`.
        weights: > 0 with sum 1; None for equal weights.
    """

    means: Float[Array, "modes"]
    std: Std
    rotation: Float[Array, "size size"]
    weights: Float[Array, "modes"] | None = None

    def __check_init__(self) -> None:
        check_modes(self.means, self.std, self.weights)
        check_array("rotation", self.rotation)
        rotation = concrete(self.rotation)
        if rotation is not None:
            error = np.abs(rotation.T @ rotation - np.eye(len(rotation))).max()
            if error > 1e-5:
                raise ValueError(f"rotation: expected an orthogonal matrix, found one with |Q^T Q - 1| = {error:.2g}")

    @classmethod
    def grid(cls, size: int = 2, modes: int = 5, std: float = 0.05, *, key: Key | None = None) -> "ProductMixture":
        """Modes evenly spaced on [-1, 1] in each of `size` directions, randomly rotated if a key is given."""
        rotation = jnp.eye(size) if key is None else jr.orthogonal(key, size)
        return cls(jnp.linspace(-1, 1, modes), std, rotation)

    def _line(self) -> GaussianMixture:
        return GaussianMixture(self.means[:, None], self.std, self.weights)

    def _rotate(self, y: Float[Array, "size"]) -> Float[Array, "size"]:
        return jnp.matmul(self.rotation, y, precision="highest")

    def _unrotate(self, x: Float[Array, "size"]) -> Float[Array, "size"]:
        return jnp.matmul(self.rotation.T, x, precision="highest")

    def log_prob(self, x_t: Float[Array, "size"], sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`: the sum over the rotated coordinates."""
        line = self._line()
        return jnp.sum(jax.vmap(lambda y: line.log_prob(y[None], sigma))(self._unrotate(x_t)))

    def denoise(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size"]:
        """The posterior mean, coordinate by coordinate."""
        line = self._line()
        return self._rotate(jax.vmap(lambda y: line.denoise(y[None], sigma)[0])(self._unrotate(x_t)))

    def posterior(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size modes"]:
        """The probability of each mode on the line given `x_t`, for every coordinate of `y`."""
        line = self._line()
        return jax.vmap(lambda y: line.posterior(y[None], sigma))(self._unrotate(x_t))

    def posterior_covariance(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size size"]:
        """The posterior covariance: that of independent coordinates, rotated."""
        line = self._line()
        variance = jax.vmap(lambda y: line.posterior_covariance(y[None], sigma)[0, 0])(self._unrotate(x_t))
        return jnp.einsum("ik,k,jk->ij", self.rotation, variance, self.rotation, precision="highest")

    def score(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size"]:
        """`grad log p_sigma(x_t)`, coordinate by coordinate."""
        line = self._line()
        return self._rotate(jax.vmap(lambda y: line.score(y[None], sigma)[0])(self._unrotate(x_t)))

    def sample(self, *, key: Key) -> Float[Array, "size"]:
        """One clean sample."""
        line = self._line()
        keys = jr.split(key, self.rotation.shape[0])
        return self._rotate(jax.vmap(lambda key: line.sample(key=key)[0])(keys))

    def transport(self, x_t: Float[Array, "size"], t: Level, r: Level) -> Float[Array, "size"]:
        """The flow map from level `t` to level `r`: `F_r^{-1}(F_t(y))` per coordinate, good to rounding.

        Where the law at `r` has next to no mass (between its modes) the map itself is steep and magnifies rounding.
        """
        modes = self.means.shape
        weights = jnp.full(modes, 1 / modes[0]) if self.weights is None else self.weights
        law = self.means, jnp.broadcast_to(self.std, modes), weights
        dtype = jnp.result_type(x_t, t, r, *law)
        levels_and_law = [jnp.asarray(value, dtype) for value in (t, r, *law)]
        y = self._unrotate(x_t).astype(dtype)
        return self._rotate(jax.vmap(lambda y: monotone_map(y, *levels_and_law))(y))
