"""How alike two functions of a noised sample are, such as the two parts of a pair (the paper's Figure 3)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float

from .._base.types import Key
from ..diffusion import perturb


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
        norms = jax.numpy.linalg.norm(a, axis=1) * jax.numpy.linalg.norm(b, axis=1)
        return ((a * b).sum(1) / jax.numpy.maximum(norms, 1e-30)).mean()

    def gap(a: Array, b: Array) -> Array:
        return jax.numpy.sqrt(jax.numpy.square(a - b).reshape(len(a), -1).sum(1).mean())

    def at(sigma: Array) -> tuple[Array, Array, Array]:
        x_t = perturb(x, z, sigma)
        a, b = (jax.vmap(lambda x_t: function(x_t, sigma))(x_t) for function in (f, g))  # noqa: B023  (called at once)
        return (
            cosine(a, b),
            cosine(a - centre[None], b - centre[None]),
            gap(a, b),
        )

    return Alignment(levels, *jax.lax.map(at, levels))
