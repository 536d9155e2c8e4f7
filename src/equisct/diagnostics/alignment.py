"""How alike two functions of a noised sample are, such as the two parts of a pair (the paper's Figure 3)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.check import check_at_least, check_positive
from .._base.concrete import check_array
from .._base.types import Denoiser, Key
from ..diffusion import perturb
from ..oracle import AbstractOracle
from ._points import draw_points, exact_end

BLIND = 1e8
"""A level at which nothing is seen of a sample, so that the posterior mean is the mean. A mean of samples would not do:
at high levels both answers are nearer to the mean than its error."""


class Alignment(eqx.Module):
    """How alike two functions of `(x_t, sigma)` are at each level, over the same points.

    `cosine` is the mean over the samples of the cosine between the two answers as vectors, `centred` the same after a
    point has been subtracted from both, `gap` the root mean square of their difference (Euclidean, in data units). At
    low levels both answers are near x_t, so that the plain cosine is near 1 for any two sensible functions.
    """

    levels: Float[Array, " levels"]
    cosine: Float[Array, " levels"]
    centred: Float[Array, " levels"]
    gap: Float[Array, " levels"]


@eqx.filter_jit
def measure_alignment(
    f: Callable[[Array, Array], Array],
    g: Callable[[Array, Array], Array],
    x: Float[Array, "n *shape"],
    levels: Float[Array, " levels"],
    *,
    centre: Float[Array, "*shape"],
    key: Key,
) -> Alignment:
    """Figure 3 of the paper: alignment of two functions on `x + sigma z`, with one noise `z` for all levels.

    Args:
        f: `(x_t, sigma) -> sample`, such as a model's `denoise`.
        g: another, such as a model's `endpoint`.
        x: samples of the data.
        levels: noise levels, > 0.
        centre: what the centred cosine subtracts, such as the mean of the data.
        key: of the noise.
    """
    z = jr.normal(key, x.shape, x.dtype)

    def cosine(a: Array, b: Array) -> Array:
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
        return ((a * b).sum(1) / jnp.maximum(norms, 1e-30)).mean()

    def gap(a: Array, b: Array) -> Array:
        return jnp.sqrt(jnp.square(a - b).reshape(len(a), -1).sum(1).mean())

    def at(sigma: Array) -> tuple[Array, Array, Array]:
        x_t = perturb(x, z, sigma)
        a, b = (jax.vmap(lambda x_t: function(x_t, sigma))(x_t) for function in (f, g))  # noqa: B023  (called at once)
        return (
            cosine(a, b),
            cosine(a - centre[None], b - centre[None]),
            gap(a, b),
        )

    return Alignment(levels, *jax.lax.map(at, levels))


def measure_excess_alignment(
    denoise: Denoiser,
    endpoint: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    sigma_min: float,
    samples: int,
    key: Key,
) -> Alignment:
    """The alignment of a pair minus that of the exact pair, on the same points: 0 at every level for the exact pair.

    The exact posterior mean and the exact flow map are nearly parallel at every level already, whatever the gap between
    them, so that a high cosine alone (the paper's Figure 3) is no evidence. A negative `gap` says that head and
    consistency model are nearer to each other than they should be.

    Args:
        denoise: `(x_t, sigma) -> sample`, such as the score head's `denoise`.
        endpoint: such as the consistency model's `endpoint`.
        law: the exact law; a data set is `oracle.Empirical(x)`. Its paths end by `transport`, else by `solve_pf_ode`.
        levels: noise levels, > `sigma_min`.
        sigma_min: the level that the paths end at, > 0.
        samples: points per level; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for a level that is not > 0, or no samples.
    """
    check_positive("sigma_min", sigma_min)
    check_array("levels", levels, positive=True)
    check_at_least("samples", samples, 1)
    x_key, z_key = jr.split(key)
    x, _ = draw_points(law, samples=samples, key=x_key)
    end = eqx.Partial(_end, law, sigma_min)
    centre = law.denoise(jnp.zeros_like(x[0]), BLIND)  # the law's mean
    found, exact = (
        measure_alignment(f, g, x, levels, centre=centre, key=z_key)
        for f, g in ((denoise, endpoint), (law.denoise, end))
    )
    return Alignment(levels, found.cosine - exact.cosine, found.centred - exact.centred, found.gap - exact.gap)


def _end(law: AbstractOracle, sigma_min: float, x_t: Array, sigma: Array) -> Array:
    return exact_end(law, x_t, sigma, sigma_min)
