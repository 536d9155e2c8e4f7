"""The optimum of a consistency objective for unlimited data and an unlimited network, on mixtures on the line.

The map at the lowest level is the identity; that at each level above minimises, point by point, the expected distance
to the map one level below, at the end of the small step (dynamic programming). So it shows what an objective is after,
free of networks and of optimisers. The weighting and the law of the levels play no part: they do not move an optimum
that is taken point by point.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float

from .._base.check import check_at_least
from .._base.concrete import as_array, check_array, concrete, in_line
from .._base.types import Level, Levels, Scalar
from ..discretization import LevelPair
from ..distance import AbstractDistance, SquaredL2
from ..model import Readout
from ..objectives.readout import TorsoPass
from ..objectives.slots import Draw, Keys, Stepper, Velocity, straight_step
from ..objectives.velocity import one_sample_velocity
from ..oracle import ProductMixture

REACH = 6.0
"""How far the nodes go, in standard deviations of the noised law."""


class PopulationOptimum(eqx.Module):
    """The optimum at the highest level, on nodes: `endpoint` beside the `exact` flow map.

    `rms` is the root mean square of their difference under the law at that level (data units).
    """

    x_t: Float[Array, " nodes"]
    endpoint: Float[Array, " nodes"]
    exact: Float[Array, " nodes"]
    rms: Scalar


class _Scale(eqx.Module):
    """Between points at a level and nodes, `(x_t - mean) / sqrt(variance + sigma^2)`."""

    mean: Scalar
    variance: Scalar

    @staticmethod
    def of(law: ProductMixture) -> "_Scale":
        modes = law.means.shape
        weights = jnp.full(modes, 1 / modes[0], law.means.dtype) if law.weights is None else law.weights
        mean = jnp.sum(weights * law.means)
        variance = jnp.sum(weights * (jnp.broadcast_to(law.std, modes) ** 2 + (law.means - mean) ** 2))
        return _Scale(mean * law.rotation[0, 0], variance)

    def point(self, y: Array, sigma: Level) -> Array:
        return self.mean + y * jnp.sqrt(self.variance + sigma**2)

    def node(self, x_t: Array, sigma: Level) -> Array:
        return (x_t - self.mean) / jnp.sqrt(self.variance + sigma**2)


def _posterior(
    law: ProductMixture, x_t: Scalar, sigma: Level, quadrature: int
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Points and weights of a rule for means over `x` given `x_t`: Gauss-Hermite in each mode."""
    nodes, rule = np.polynomial.hermite_e.hermegauss(quadrature)
    modes = law.means.shape
    means, std = law.means * law.rotation[0, 0], jnp.broadcast_to(law.std, modes)
    variance = std**2 + sigma**2
    weights = jnp.zeros(modes, means.dtype) if law.weights is None else jnp.log(law.weights)
    share = jax.nn.softmax(weights - (x_t - means) ** 2 / (2 * variance) - jnp.log(variance) / 2)
    centre, spread = means + std**2 / variance * (x_t - means), std * sigma / jnp.sqrt(variance)
    points = centre[:, None] + spread[:, None] * jnp.asarray(nodes, means.dtype)[None]
    return points.ravel(), (share[:, None] * jnp.asarray(rule / rule.sum(), means.dtype)[None]).ravel()


def _minimiser(distance: AbstractDistance, targets: Float[Array, " n"], weights: Float[Array, " n"]) -> Scalar:
    """The number with the least mean distance to weighted targets: the root of the slope, between the outermost ones.

    By Newton's steps, and by halving the bracket where such a step would leave it or gains little: one step is all for
    a quadratic distance, and a kink does no harm.
    """

    def slope(value: Scalar) -> Scalar:
        one = lambda target: jax.grad(lambda value: distance(value[None], target[None]))(value)
        return jnp.sum(weights * jax.vmap(one)(targets))

    def better(state: tuple[Scalar, Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        low, high, value, moved = state
        found, curvature = jax.jvp(slope, (value,), (jnp.ones_like(value),))
        low, high = jnp.where(found < 0, value, low), jnp.where(found < 0, high, value)
        newton = value - found / curvature
        is_good = (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - value) < moved)
        new = jnp.where(is_good, newton, low + (high - low) / 2)
        return low, high, new, jnp.abs(new - value)

    low, high = targets.min(), targets.max()
    least = 4 * jnp.finfo(targets.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    start = low, high, jnp.sum(weights * targets), 4 * (high - low)
    return jax.lax.while_loop(lambda state: state[3] > least, better, start)[2]


@eqx.filter_jit
def _next_level(
    law: ProductMixture,
    velocity: Velocity,
    step: Stepper,
    distance: AbstractDistance,
    nodes: Float[Array, " nodes"],
    below: Float[Array, " nodes"],
    pair: LevelPair,
    quadrature: int,
) -> Float[Array, " nodes"]:
    """The optimal map at `pair.t` from that at `pair.r`, on nodes in units of each level's standard deviation."""
    key = jr.key(0)
    keys, scale = Keys(key, key, key, key), _Scale.of(law)

    def teacher(x_r: Scalar) -> Scalar:
        return jnp.interp(scale.node(x_r, pair.r), nodes, below, left="extrapolate", right="extrapolate")

    def at(y: Scalar) -> Scalar:
        x_t = scale.point(y, pair.t)
        points, weights = _posterior(law, x_t, pair.t, quadrature)

        def target(x: Scalar) -> Scalar:
            one, seen = x[None], x_t[None]
            draw = Draw(one, (seen - one) / pair.t, pair, keys)
            field = velocity(None, draw, TorsoPass(one, seen, pair.t, Readout(seen, seen[None], seen), key))
            return teacher(step(field, seen, pair)[0])

        return _minimiser(distance, jax.vmap(target)(points), weights)

    return jax.vmap(at)(nodes)


@eqx.filter_jit
def _against_exact(law: ProductMixture, x_t: Array, found: Array, top: Array, bottom: Array) -> PopulationOptimum:
    exact = jax.vmap(lambda x: law.transport(x[None], top, bottom)[0])(x_t)
    density = jax.nn.softmax(jax.vmap(lambda x: law.log_prob(x[None], top))(x_t))
    return PopulationOptimum(x_t, found, exact, jnp.sqrt(jnp.sum(density * jnp.square(found - exact))))


def population_optimum(
    law: ProductMixture,
    levels: Levels,
    *,
    velocity: Velocity = one_sample_velocity,
    step: Stepper = straight_step,
    distance: AbstractDistance | None = None,
    nodes: int = 3001,
    quadrature: int = 9,
) -> PopulationOptimum:
    """The map that a consistency objective with these slots is after on a grid, and how far it is from the flow map.

    With an exact velocity the error is that of the solver: it halves (`straight_step`) or quarters (`heun_correction`)
    with every doubling of the grid. With the one-sample velocity the optimum is the mean of a chain that draws `x`
    anew from its posterior at every level, whose error falls far more slowly. A pseudo-Huber distance with a constant
    below the residual's noise moves the optimum on top of that.

    The nodes are equally spaced in `(x_t - mean) / sqrt(variance + sigma^2)`, with lines between them. That sets a
    floor to the error: 3e-3 to 6e-3 for 1001 nodes and up to 160 levels, a ninth of it for 3001. Arithmetic is in the
    dtype of the law.

    Args:
        law: of one dimension.
        levels: ascending, as `karras_grid` gives them; the map at the lowest is the identity.
        velocity: where the small step's direction comes from, as in `Consistency`; there is no model to ask (`None`),
            so `head_velocity` is refused: `DenoiserVelocity` takes any denoiser, exact or off by what you like.
        step: takes the small step.
        distance: between student and teacher, convex in either; by default `SquaredL2()`.
        nodes: points at which the map is kept, >= 2.
        quadrature: Gauss-Hermite points in each mode's share of the posterior, >= 1. Nine are plenty for `SquaredL2`;
            the medians that a small pseudo-Huber constant asks for need more.

    Raises:
        ValueError: for a law of more dimensions, levels that do not ascend, or too few nodes or points.
    """
    if law.rotation.shape != (1, 1):
        raise ValueError(f"law: expected one dimension, found {len(law.rotation)}")
    check_at_least("nodes", nodes, 2)
    check_at_least("quadrature", quadrature, 1)
    grid = as_array(levels)
    check_array("levels", grid, positive=True)
    known = concrete(grid)
    if known is not None and not (known.size > 1 and np.all(np.diff(known) > 0)):
        raise ValueError(f"levels: expected two or more, strictly ascending, found {in_line(known)}")
    dtype = law.means.dtype
    y = jnp.linspace(-REACH, REACH, nodes, dtype=dtype)
    bottom, top = (jnp.asarray(level, dtype) for level in (grid[0], grid[-1]))
    found = _Scale.of(law).point(y, bottom)
    for r, t in zip(grid[:-1], grid[1:], strict=True):
        pair = LevelPair(*(jnp.asarray(level, dtype) for level in (t, r, t - r)))
        found = _next_level(law, velocity, step, distance or SquaredL2(), y, found, pair, quadrature)
    return _against_exact(law, _Scale.of(law).point(y, top), found, top, bottom)
