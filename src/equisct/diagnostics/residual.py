"""The paper's equations (5) and (6): what a consistency model's derivatives say about the score, and it about them.

Notation: `f(x_t, t)` the endpoint, `J` its Jacobian in `x_t`, `u = (x_t - denoised) / t = -t score` the velocity of the
PF-ODE. The exact map has `d_t f + J u = 0` (eq. 5), hence `score = J^-1 d_t f / t` (eq. 6).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._base.check import check_positive
from .._base.defaults import SIGMA_DATA
from .._base.types import Denoiser, Key, Level, Sample
from ..diffusion import perturb, pf_drift, score_from_denoised
from ..oracle import AbstractOracle
from ._points import lengths, over_levels, rms_and_median

LARGEST = 256
"""Numbers of a sample whose Jacobian is still inverted: `LARGEST` passes and `LARGEST^3` operations a point."""


def flow_residual(endpoint: Denoiser, x_t: Sample, velocity: Sample, sigma: Level) -> Array:
    """`R = d_t f + J velocity` (paper eq. 5) at one point, in data units per unit of noise level: one `jax.jvp`.

    Zero for the exact flow map and the exact velocity. With the noise `z` of one sample as velocity its mean given
    `x_t` is the same, but it does not vanish at the exact map.

    Args:
        endpoint: `(x_t, sigma) -> sample`, differentiable in both.
        x_t: one noised sample.
        velocity: along which it moves as the level rises, `pf_drift(denoised, x_t, sigma)`.
        sigma: its level, > 0.
    """
    t = jnp.asarray(sigma, x_t.dtype)
    _, residual = jax.jvp(endpoint, (x_t, t), (velocity.astype(x_t.dtype), jnp.ones_like(t)))
    return residual


def score_from_endpoint(endpoint: Denoiser, x_t: Sample, sigma: Level, *, rtol: float | None = None) -> Array:
    """The score that a consistency model implies, `J^+ d_t f / t` (paper eq. 6), at one point.

    `J^+` is the pseudo-inverse: where `J` has no full rank the score's part in its null space comes out as 0. A sample
    of `n` numbers costs `n + 1` passes and `n^3` operations, so this is for small samples. It divides by `J`, which is
    tiny wherever noise is large, and as ill-conditioned as paths part: take float64 for more than a few digits.

    Args:
        endpoint: `(x_t, sigma) -> sample`, differentiable in both.
        x_t: one noised sample, of at most 256 numbers.
        sigma: its level, > 0.
        rtol: singular values below this share of the largest count as 0; by default `10 n` times the dtype's epsilon.

    Raises:
        ValueError: for a larger sample.
    """
    if x_t.size > LARGEST:
        raise ValueError(
            f"x_t: expected at most {LARGEST} numbers, found {x_t.size}; eq. (6) inverts their whole Jacobian, so take "
            "flow_residual for larger samples, which needs one product with it"
        )
    t = jnp.asarray(sigma, x_t.dtype)
    _, along = jax.linearize(endpoint, x_t, t)
    by_level = along(jnp.zeros_like(x_t), jnp.ones_like(t))
    directions = jnp.eye(x_t.size, dtype=x_t.dtype).reshape(-1, *x_t.shape)
    columns = jax.vmap(lambda v: along(v, jnp.zeros_like(t)))(directions)
    inverse = jnp.linalg.pinv(columns.reshape(x_t.size, x_t.size).T, rtol=rtol)
    return jnp.matmul(inverse, by_level.reshape(-1), precision="highest").reshape(x_t.shape) / t


class Residual(eqx.Module):
    """Root mean square and median over the points of `t |R| / (sigma_data sqrt(size))`, eq. (5), at each level.

    Free of scale: the change of the endpoint per unit of log level, a coordinate, in units of the data's spread.
    """

    levels: Float[Array, " levels"]
    rms: Float[Array, " levels"]
    median: Float[Array, " levels"]


def measure_residual(
    endpoint: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    denoise: Denoiser | None,
    sigma_data: float = SIGMA_DATA,
    samples: int,
    key: Key,
) -> Residual:
    """The residual of the paper's eq. (5), on `samples` points `x + sigma z` per level.

    Args:
        endpoint: `(x_t, sigma) -> sample`, such as a consistency model's `endpoint`.
        law: that the points come from; a data set is `oracle.Empirical(x)`.
        levels: noise levels, > 0.
        denoise: whose velocity it is: the exact `law.denoise`, the model's own `denoise` (needs no truth), or None for
            the noise `z` of each point. That one is not 0 for the exact map.
        sigma_data: standard deviation of the data, > 0.
        samples: points per level; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for levels or a `sigma_data` that are not > 0, or no samples.
    """
    check_positive("sigma_data", sigma_data)
    at = eqx.Partial(_residual_at, endpoint, denoise, sigma_data)
    return Residual(levels, *over_levels(at, law, levels, samples=samples, key=key))


def _residual_at(
    endpoint: Denoiser, denoise: Denoiser | None, sigma_data: float, x: Array, z: Array, sigma: Array
) -> tuple[Array, Array]:
    def one(x: Array, z: Array) -> Array:
        x_t = perturb(x, z, sigma)
        velocity = z if denoise is None else pf_drift(denoise(x_t, sigma), x_t, sigma)
        return flow_residual(endpoint, x_t, velocity, sigma)

    scale = sigma / (sigma_data * math.sqrt(x[0].size))
    return rms_and_median(scale * lengths(jax.vmap(one)(x, z)))


class EndpointScore(eqx.Module):
    """How far the score of eq. (6) is from others at each level: `sigma |difference| / sqrt(size)` over the points.

    Free of scale: `sigma score` is minus the mean of the noise given `x_t`, so 1 is as wrong as the noise is large.
    `truth_*` are against the law's score, `head_*` against that of a denoiser; None where none was given.
    """

    levels: Float[Array, " levels"]
    truth_rms: Float[Array, " levels"]
    truth_median: Float[Array, " levels"]
    head_rms: Float[Array, " levels"] | None
    head_median: Float[Array, " levels"] | None


def measure_endpoint_score(
    endpoint: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    head: Denoiser | None = None,
    rtol: float | None = None,
    samples: int,
    key: Key,
) -> EndpointScore:
    """The score that a consistency model implies (paper eq. 6), against the exact one and against its score head's.

    For samples of at most 256 numbers: see `score_from_endpoint`.

    Args:
        endpoint: `(x_t, sigma) -> sample`, such as a consistency model's `endpoint`.
        law: the exact law, which the points come from.
        levels: noise levels, > 0.
        head: a denoiser to compare with, such as the model's `denoise`.
        rtol: of the pseudo-inverse.
        samples: points per level; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for larger samples, levels that are not > 0, or no samples.
    """
    at = eqx.Partial(_score_at, endpoint, law, head, rtol)
    return EndpointScore(levels, *over_levels(at, law, levels, samples=samples, key=key))


def _score_at(
    endpoint: Denoiser,
    law: AbstractOracle,
    head: Denoiser | None,
    rtol: float | None,
    x: Array,
    z: Array,
    sigma: Array,
) -> tuple[Array | None, ...]:
    x_t = perturb(x, z, sigma)
    found = jax.vmap(lambda x_t: score_from_endpoint(endpoint, x_t, sigma, rtol=rtol))(x_t)
    scale = sigma / math.sqrt(x[0].size)
    truth = rms_and_median(scale * lengths(found - jax.vmap(lambda x_t: law.score(x_t, sigma))(x_t)))
    if head is None:
        return *truth, None, None
    other = jax.vmap(lambda x_t: score_from_denoised(head(x_t, sigma), x_t, sigma))(x_t)
    return *truth, *rms_and_median(scale * lengths(found - other))
