"""Whether an endpoint is the flow map of the PF-ODE: against the exact end, and against itself along exact paths.

Notation: `Phi_{t->r}` is the exact flow map, `f(x_t, t)` the endpoint, which should equal `Phi_{t->sigma_min}(x_t)`.
"""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._base.check import check_fraction, check_positive
from .._base.types import Denoiser, Key
from ..diffusion import perturb
from ..oracle import AbstractOracle
from ._points import exact_end, lengths, over_levels, rms_and_median

Basin: TypeAlias = Callable[[Array], Array]
"""`sample -> label`: which mode a clean sample belongs to, one whole number or several."""


class FlowMapError(eqx.Module):
    """Distances (Euclidean, in data units) of an endpoint from the exact end of its path, at each level.

    Few points make the root mean square: those near the border between two basins, where the exact map is steep, and
    those in the tails. So the median and the chosen `quantiles` stand beside it. `basin_accuracy` is the share of the
    points that end in the right mode, from 0 to 1; None where nobody says what the modes are.
    """

    levels: Float[Array, " levels"]
    rms: Float[Array, " levels"]
    median: Float[Array, " levels"]
    quantiles: Float[Array, "levels chosen"]
    basin_accuracy: Float[Array, " levels"] | None


def measure_flow_map(
    endpoint: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    sigma_min: float,
    quantiles: tuple[float, ...] = (0.9, 0.99),
    basin: Basin | None = None,
    core: float = 1.0,
    samples: int,
    key: Key,
) -> FlowMapError:
    """The error of an endpoint as a flow map, on `samples` points `x + sigma z` per level.

    The exact end is the law's `transport` where it has one, else the solution of `solve_pf_ode`, which costs hundreds
    of evaluations of the law's denoiser a point.

    Args:
        endpoint: `(x_t, sigma) -> sample`, such as a consistency model's `endpoint`.
        law: the exact law; a data set is `oracle.Empirical(x)`.
        levels: noise levels, > `sigma_min`.
        sigma_min: the level that the paths end at, > 0.
        quantiles: of the distances, each from 0 to 1.
        basin: which mode a sample belongs to, such as `lambda x: law.posterior(x, sigma_min).argmax(-1)`.
        core: the share of the points that counts, those where the noised law is densest; in (0, 1]. 1 counts all.
        samples: points per level; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for a level that is not > 0, no samples, or a share that is none.
    """
    check_positive("sigma_min", sigma_min)
    for share in quantiles:
        if not 0 <= share <= 1:
            raise ValueError(f"quantiles: expected numbers from 0 to 1, found {share}")
    if not 0 < core <= 1:
        raise ValueError(f"core: expected a share in (0, 1], found {core}")
    at = eqx.Partial(_error_at, endpoint, law, sigma_min, quantiles, basin, core)
    return FlowMapError(levels, *over_levels(at, law, levels, samples=samples, key=key))


def _error_at(
    endpoint: Denoiser,
    law: AbstractOracle,
    sigma_min: float,
    quantiles: tuple[float, ...],
    basin: Basin | None,
    core: float,
    x: Array,
    z: Array,
    sigma: Array,
) -> tuple[Array | None, ...]:
    x_t = perturb(x, z, sigma)
    if core < 1:
        density = jax.vmap(lambda x_t: law.log_prob(x_t, sigma))(x_t)
        x_t = x_t[jnp.argsort(-density)[: max(1, round(core * len(x_t)))]]
    found = jax.vmap(lambda x_t: endpoint(x_t, sigma))(x_t)
    exact = jax.vmap(lambda x_t: exact_end(law, x_t, sigma, sigma_min))(x_t)
    distances = lengths(found - exact)
    chosen = jnp.quantile(distances, jnp.asarray(quantiles, distances.dtype))
    if basin is None:
        return *rms_and_median(distances), chosen, None
    same = jax.vmap(lambda a, b: jnp.all(basin(a) == basin(b)))(found, exact)
    return *rms_and_median(distances), chosen, same.astype(distances.dtype).mean()


class SelfConsistency(eqx.Module):
    """How much an endpoint changes along an exact path, and how far it is from the boundary condition, at each level.

    `rms` and `median` are of `|f(x_t, t) - f(Phi_{t->r}(x_t), r)|` (Euclidean, in data units). They are 0 for every
    constant map, so they say nothing without `boundary_rms`, of `|f(x, sigma_min) - x|` at the exact ends of the paths.
    With r = sigma_min the flow map's error is at most the sum of both.
    """

    levels: Float[Array, " levels"]
    rms: Float[Array, " levels"]
    median: Float[Array, " levels"]
    boundary_rms: Float[Array, " levels"]


def measure_self_consistency(
    endpoint: Denoiser,
    law: AbstractOracle,
    levels: Float[Array, " levels"],
    *,
    sigma_min: float,
    ratio: float = 0.5,
    samples: int,
    key: Key,
) -> SelfConsistency:
    """Self-consistency of an endpoint (paper eq. 2) from level `t` to `r = max(ratio t, sigma_min)` on exact paths.

    Args:
        endpoint: `(x_t, sigma) -> sample`, such as a consistency model's `endpoint`.
        law: whose paths they are; a data set is `oracle.Empirical(x)`.
        levels: noise levels `t`, > `sigma_min`.
        sigma_min: the level of the boundary condition, > 0.
        ratio: of `r` to `t`, in [0, 1); 0 goes to `sigma_min` at once.
        samples: points per level; one noise each for all levels.
        key: for the points and the noise.

    Raises:
        ValueError: for a level that is not > 0, no samples, or another ratio.
    """
    check_positive("sigma_min", sigma_min)
    check_fraction("ratio", ratio)
    at = eqx.Partial(_consistency_at, endpoint, law, sigma_min, ratio)
    return SelfConsistency(levels, *over_levels(at, law, levels, samples=samples, key=key))


def _consistency_at(
    endpoint: Denoiser, law: AbstractOracle, sigma_min: float, ratio: float, x: Array, z: Array, t: Array
) -> tuple[Array, ...]:
    r = jnp.maximum(ratio * t, sigma_min)

    def one(x_t: Array) -> tuple[Array, Array]:
        x_r, x_min = exact_end(law, x_t, t, r), exact_end(law, x_t, t, sigma_min)
        lowest = jnp.asarray(sigma_min, t.dtype)
        return endpoint(x_t, t) - endpoint(x_r, r), endpoint(x_min, lowest) - x_min

    change, boundary = jax.vmap(one)(perturb(x, z, t))
    return *rms_and_median(lengths(change)), rms_and_median(lengths(boundary))[0]
