"""Mixtures of isotropic Gaussians in any dimension: exact denoiser, score and density, but no closed-form flow map."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.types import Key, Level, Scalar
from .abstract import AbstractOracle, Std, check_modes


def _square_distances(x_t: Float[Array, "size"], means: Float[Array, "modes size"]) -> Float[Array, "modes"]:
    return jnp.sum(jnp.square(x_t[None] - means), axis=1)


class GaussianMixture(AbstractOracle):
    """`sum_k weights_k Normal(means_k, std_k^2 I)` on vectors.

    Args:
        means: one row per mode.
        std: standard deviation of every mode, or one per mode; > 0.
        weights: > 0 with sum 1; None for equal weights.
    """

    means: Float[Array, "modes size"]
    std: Std
    weights: Float[Array, "modes"] | None = None

    def __check_init__(self) -> None:
        check_modes(self.means, self.std, self.weights)

    @classmethod
    def ring(cls, modes: int = 8, radius: float = 1.0, std: float = 0.1) -> "GaussianMixture":
        """Equal modes, evenly spaced on a circle around the origin of the plane."""
        angles = 2 * math.pi * np.arange(modes) / modes
        return cls(jnp.asarray(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)), std)

    def log_joint(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "modes"]:
        """`log weights_k Normal(x_t; means_k, (std_k^2 + sigma^2) I)`, per mode."""
        modes, size = self.means.shape
        weights = 1 / modes if self.weights is None else self.weights
        variance = self.std**2 + sigma**2
        squares = _square_distances(x_t, self.means)
        return jnp.log(weights) - squares / (2 * variance) - size / 2 * jnp.log(2 * math.pi * variance)

    def posterior(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "modes"]:
        """The probability of each mode given `x_t`."""
        return jax.nn.softmax(self.log_joint(x_t, sigma))

    def log_prob(self, x_t: Float[Array, "size"], sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`."""
        return jax.nn.logsumexp(self.log_joint(x_t, sigma))

    def denoise(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size"]:
        """The posterior mean: the modes' own posterior means, averaged by `posterior`."""
        return jnp.einsum("k,kd->d", self.posterior(x_t, sigma), self._means(x_t, sigma), precision="highest")

    def _means(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "modes size"]:
        """The posterior mean of each mode by itself."""
        gains = jnp.broadcast_to(self.std**2 / (self.std**2 + sigma**2), self.means.shape[:1])
        return self.means + gains[:, None] * (x_t[None] - self.means)

    def posterior_covariance(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size size"]:
        """The posterior covariance: the modes' own variances, and the spread of their posterior means."""
        posterior = self.posterior(x_t, sigma)
        spread = self._means(x_t, sigma) - self.denoise(x_t, sigma)[None]
        within = jnp.sum(posterior * self.std**2 * sigma**2 / (self.std**2 + sigma**2))
        between = jnp.einsum("k,ki,kj->ij", posterior, spread, spread, precision="highest")
        return within * jnp.eye(x_t.size, dtype=between.dtype) + between

    def score(self, x_t: Float[Array, "size"], sigma: Level) -> Float[Array, "size"]:
        """`grad log p_sigma(x_t)`; not derived from `denoise`, whose difference to `x_t` cancels at small levels."""
        scores = (self.means - x_t[None]) / (jnp.broadcast_to(self.std**2 + sigma**2, self.means.shape[:1])[:, None])
        return jnp.einsum("k,kd->d", self.posterior(x_t, sigma), scores, precision="highest")

    def sample(self, *, key: Key) -> Float[Array, "size"]:
        """One clean sample."""
        mode_key, noise_key = jr.split(key)
        modes, size = self.means.shape
        mode = jr.choice(mode_key, modes, p=self.weights)
        std = jnp.broadcast_to(self.std, (modes,))
        return self.means[mode] + std[mode] * jr.normal(noise_key, (size,), self.means.dtype)
