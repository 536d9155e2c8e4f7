"""The noise that one-sample velocities leave in consistency training however fine the grid is, in closed form."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.check import check_at_least
from .._base.types import Denoiser, Key, Level, Sample, Scalar


def noise_law(
    endpoint: Denoiser,
    denoise: Denoiser,
    x_t: Sample,
    sigma: Level,
    *,
    probes: int | None = None,
    key: Key | None = None,
) -> Scalar:
    """`tr(J C J^T) / sigma^2` at one point: the variance of a consistency residual over the square of its gap.

    `J = d endpoint / d x_t`, and `C = sigma^2 d denoised / d x_t` is the covariance of `x` given `x_t`. With the
    one-sample velocity `z`, whose covariance given `x_t` is `C / sigma^2`, the residual `f(x_t, t) - f(x_r, r)` has the
    covariance `(t - r)^2 J C J^T / t^2` to leading order in the gap. Under the weight `1 / (t - r)` and `SquaredL2` the
    noise of the gradient is therefore the same on every grid, and it does not vanish at the optimum; with the exact
    velocity, or a score head's, it is zero. Its mean over `x_t` is the floor of a level; `SquaredL2`, a mean over
    elements, has it divided by their number.

    Args:
        endpoint: a consistency function, such as `model.endpoint` or an oracle's flow map; differentiable.
        denoise: the posterior mean, an oracle's or a head's.
        x_t: one noised sample.
        sigma: its level, > 0.
        probes: random signs that estimate the trace (Hutchinson): three Jacobian products each, unbiased. By default
            exactly, in as many products as `x_t` has elements.
        key: of the probes.

    Raises:
        ValueError: for fewer than one probe, or probes without a key.
    """
    shape, dtype = jnp.shape(x_t), jnp.result_type(x_t)
    _, through_f = jax.linearize(lambda x_t: endpoint(x_t, sigma), x_t)
    _, through_mean = jax.linearize(lambda x_t: denoise(x_t, sigma), x_t)

    def along(v: Float[Array, " size"]) -> Scalar:
        """`v^T J^T J (C / sigma^2) v`, whose mean over the probes is the trace."""
        v = v.reshape(shape)
        return jnp.sum(through_f(v) * through_f(through_mean(v)))

    size = x_t.size
    if probes is None:
        return jnp.sum(jax.vmap(along)(jnp.eye(size, dtype=dtype)))
    check_at_least("probes", probes, 1)
    if key is None:
        raise ValueError("key: expected one for the probes, found None")
    return jnp.mean(jax.vmap(along)(jr.rademacher(key, (probes, size), dtype)))
