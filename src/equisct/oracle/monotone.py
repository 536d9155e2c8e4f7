"""The increasing map that carries one noised mixture on the line to another: the PF-ODE's flow map in one dimension.

Notation: F_sigma is the distribution function of `sum_k weights_k Normal(means_k, std_k^2 + sigma^2)`. A path of the
PF-ODE keeps F_sigma(y) constant, so the map from level t to level r is F_r^{-1}(F_t(y)).

Computed as it stands, this loses all digits where F is flat: in the tails and between modes. Here the conserved number
is F minus W_j, the total weight of the j left-most modes, for the j that makes it smallest:

    F(y) - W_j  =  sum_{k >= j} weights_k Phi(z_k)  -  sum_{k < j} weights_k Phi(-z_k),   z_k = (y - means_k) / std_k

j = 0 is the distribution function, j = modes is minus the survival function. The two sums stay in log space.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import log_ndtr
from jaxtyping import Bool, Float

from .._base.types import Scalar

_Modes = Float[Array, "modes"]


def _standardise(y: Scalar, sigma: Scalar, means: _Modes, std: _Modes) -> _Modes:
    return (y - means) / jnp.sqrt(std**2 + sigma**2)


def _signed_mass(z: _Modes, right: Bool[Array, "modes"], weights: _Modes) -> tuple[Scalar, Scalar]:
    """Logarithms of the two sums above: over the modes `right` of the cut, and over the others."""
    log_mass = jnp.log(weights) + log_ndtr(jnp.where(right, z, -z))
    return jax.nn.logsumexp(log_mass, where=right), jax.nn.logsumexp(log_mass, where=~right)


def _cut(z: _Modes, means: _Modes, weights: _Modes) -> tuple[Bool[Array, "modes"], Scalar, Scalar]:
    """The modes right of the best cut, and log of the positive and of the negative part of the conserved number."""
    rank = jnp.argsort(jnp.argsort(means))
    right = rank[None] >= jnp.arange(means.size + 1)[:, None]
    above, below = jax.vmap(_signed_mass, in_axes=(None, 0, None))(z, right, weights)
    log_number = jnp.maximum(above, below) + jnp.log1p(-jnp.exp(-jnp.abs(above - below)))
    j = jnp.argmin(log_number)
    is_positive = above[j] > below[j]
    return right[j], jnp.where(is_positive, log_number[j], -jnp.inf), jnp.where(is_positive, -jnp.inf, log_number[j])


@jax.custom_jvp
def monotone_map(y: Scalar, t: Scalar, r: Scalar, means: _Modes, std: _Modes, weights: _Modes) -> Scalar:
    """`F_r^{-1}(F_t(y))` to rounding, by bisection; differentiable in every argument (implicit function theorem).

    All arguments share one floating-point dtype, float32 or float64.
    """
    z_t = _standardise(y, t, means, std)
    right, positive, negative = _cut(z_t, means, weights)
    std_r = jnp.sqrt(std**2 + r**2)

    def halve(_: Array, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bracket
        middle = low + (high - low) / 2
        above, below = _signed_mass((middle - means) / std_r, right, weights)
        is_low = jnp.logaddexp(above, negative) < jnp.logaddexp(below, positive)
        return jnp.where(is_low, middle, low), jnp.where(is_low, high, middle)

    # F_t(y) lies between the smallest and the largest Phi(z_k), hence F_r^{-1} of it between these two.
    bracket = jnp.min(means + std_r * jnp.min(z_t)), jnp.max(means + std_r * jnp.max(z_t))
    low, high = jax.lax.fori_loop(0, jnp.finfo(y.dtype).nmant + 8, halve, bracket)
    return low + (high - low) / 2


@monotone_map.defjvp
def _monotone_map_jvp(primals: tuple, tangents: tuple) -> tuple[Scalar, Scalar]:
    (y, t, r, means, std, weights), (y_dot, t_dot, r_dot, means_dot, std_dot, weights_dot) = primals, tangents
    y_r = monotone_map(y, t, r, means, std, weights)
    z_t, z_t_dot = jax.jvp(_standardise, (y, t, means, std), (y_dot, t_dot, means_dot, std_dot))
    z_r, z_r_dot = jax.jvp(_standardise, (y_r, r, means, std), (jnp.zeros_like(y), r_dot, means_dot, std_dot))
    right, _, _ = _cut(z_t, means, weights)
    log_density = jax.nn.logsumexp(jnp.log(weights) - z_r**2 / 2 - jnp.log(std**2 + r**2) / 2)

    def mass_dot(z: _Modes, z_dot: _Modes) -> Scalar:
        """The change of the conserved number, in units of p_r(y_r) / sqrt(2 pi)."""
        mass = jnp.exp(log_ndtr(jnp.where(right, z, -z)) - log_density) * jnp.sqrt(2 * jnp.pi)
        density = jnp.exp(jnp.log(weights) - z**2 / 2 - log_density)
        return jnp.sum(density * z_dot + jnp.where(right, mass, -mass) * weights_dot)

    return y_r, mass_dot(z_t, z_t_dot) - mass_dot(z_r, z_r_dot)
