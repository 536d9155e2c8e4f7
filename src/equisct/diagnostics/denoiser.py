"""Whether a denoiser is the posterior mean: its excess risk, and whether its divergence knows the posterior's variance.

Notation: `D(x_t, sigma) = E[x | x_t]`, `C(x_t, sigma) = Cov[x | x_t] = sigma^2 dD / dx_t` (Tweedie, second order).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.check import check_at_least
from .._base.types import Denoiser, Key
from ..diffusion import perturb
from ..oracle import AbstractOracle
from ._points import lengths, over_levels


class DenoiserError(eqx.Module):
    """A denoiser `h` against the exact posterior mean `D` at each level, in squared data units and as shares of these.

    The denoising loss of `h` is `error + variance`: `error = E |h - D|^2` can be learned, `variance = E tr C` cannot,
    and where it is the larger part the loss alone says nothing about `h`. `excess_risk` is the ratio of the two.
    `calibration` is `E sigma^2 div h / E tr C`, 1 for the exact denoiser; `miscalibration` is the root mean square of
    `sigma^2 div h - tr C` over the points in units of `E tr C`, 0 for the exact one alone. The shares are not finite
    where nothing is left open, such as in a data set at low levels.
    """

    levels: Float[Array, " levels"]
    error: Float[Array, " levels"]
    variance: Float[Array, " levels"]
    excess_risk: Float[Array, " levels"]
    calibration: Float[Array, " levels"]
    miscalibration: Float[Array, " levels"]


def measure_denoiser(
    denoise: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    probes: int | None = None,
    samples: int,
    key: Key,
) -> DenoiserError:
    """The excess risk and the calibration of a denoiser, on `samples` points `x + sigma z` per level.

    Args:
        denoise: `(x_t, sigma) -> sample`, differentiable, such as a score head's `denoise`.
        law: the exact law; a data set is `oracle.Empirical(x)`.
        levels: noise levels, > 0.
        probes: random signs per point that both divergences are estimated with, the same ones (Hutchinson 1990); by
            default one pass for every number of a sample, exact.
        samples: points per level; one noise each for all levels.
        key: for the points, the noise and the probes.

    Raises:
        ValueError: for levels that are not > 0, no samples, or no probes.
    """
    if probes is not None:
        check_at_least("probes", probes, 1)
    point_key, probe_key = jr.split(key)
    at = eqx.Partial(_denoiser_at, denoise, law, probes, probe_key)
    return DenoiserError(levels, *over_levels(at, law, levels, samples=samples, key=point_key))


def _denoiser_at(
    denoise: Denoiser, law: AbstractOracle, probes: int | None, key: Key, x: Array, z: Array, sigma: Array
) -> tuple[Array, ...]:
    def one(x_t: Array, key: Key) -> tuple[Array, Array, Array]:
        if probes is None:
            vectors, share = jnp.eye(x_t.size, dtype=x_t.dtype), 1.0
        else:
            vectors, share = jr.rademacher(key, (probes, x_t.size), x_t.dtype), 1 / probes
        vectors = vectors.reshape(-1, *x_t.shape)

        def variance(mean: Denoiser) -> Array:
            along = lambda v: jnp.sum(v * jax.jvp(lambda x_t: mean(x_t, sigma), (x_t,), (v,))[1])
            return share * sigma**2 * jnp.sum(jax.lax.map(along, vectors))

        return denoise(x_t, sigma) - law.denoise(x_t, sigma), variance(denoise), variance(law.denoise)

    difference, found, exact = jax.vmap(one)(perturb(x, z, sigma), jr.split(key, len(x)))
    error, left = jnp.square(lengths(difference)).mean(), exact.mean()
    spread = jnp.sqrt(jnp.square(found - exact).mean())
    return error, left, error / left, found.mean() / left, spread / left
