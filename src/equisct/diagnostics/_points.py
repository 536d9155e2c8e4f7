"""What the measurements share: points of a noised law, one noise for all levels, and where their paths end."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_at_least
from .._base.concrete import check_array
from .._base.types import Key, Level, Sample
from ..oracle import AbstractOracle, AbstractTransportOracle
from ..pf_ode import solve_pf_ode


def draw_points(law: AbstractOracle, *, samples: int, key: Key) -> tuple[Array, Array]:
    """`samples` clean points `x` of a law and a noise `z` for each, both with the samples as first axis."""
    x_key, z_key = jr.split(key)
    x = jax.vmap(lambda key: law.sample(key=key))(jr.split(x_key, samples))
    return x, jr.normal(z_key, x.shape, x.dtype)


@eqx.filter_jit
def _over_levels(
    at: Callable[[Array, Array, Array], PyTree],
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    samples: int,
    key: Key,
) -> PyTree:
    x, z = draw_points(law, samples=samples, key=key)
    return jax.lax.map(lambda sigma: at(x, z, sigma), levels)


def over_levels(
    at: Callable[[Array, Array, Array], PyTree],
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    samples: int,
    key: Key,
) -> PyTree:
    """What `at(x, z, sigma)` finds at each level, on the same points and noise, compiled once for one `eqx.Partial`.

    Raises:
        ValueError: unless the levels are finite numbers > 0 and `samples` is >= 1.
    """
    check_array("levels", levels, positive=True)
    check_at_least("samples", samples, 1)
    return _over_levels(at, law, levels, samples, key)


def exact_end(law: AbstractOracle, x_t: Sample, t: Level, r: Level) -> Array:
    """The exact path's point at level `r`: in closed form where the law has one, else the solution by diffrax."""
    if isinstance(law, AbstractTransportOracle):
        return law.transport(x_t, t, r)
    return solve_pf_ode(law.denoise, x_t, t, r)


def lengths(vectors: Float[Array, "n *shape"]) -> Float[Array, " n"]:
    """The Euclidean length of each row."""
    return jnp.sqrt(jnp.square(vectors).reshape(len(vectors), -1).sum(1))


def rms_and_median(values: Float[Array, " n"]) -> tuple[Array, Array]:
    """The root mean square and the median."""
    return jnp.sqrt(jnp.square(values).mean()), jnp.median(values)
