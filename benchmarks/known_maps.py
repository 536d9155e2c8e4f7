"""Short runs where the flow map is known: one compiled loop on one core, and how far the model's endpoint is off."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import equisct as sct

T = TypeVar("T")
RATE, DECAY = 2e-3, 0.98
LEVELS = (0.2, 1.0, 5.0, 80.0)
_SINE, _COSINE = np.sin(np.deg2rad(30)), np.cos(np.deg2rad(30))
PLANE = sct.oracle.ProductMixture(
    jnp.array([-1.0, 0.0, 1.0]), 0.15, jnp.array([[_COSINE, -_SINE], [_SINE, _COSINE]], jnp.float32)
)
"""The mixture of the preset `toy`."""
LINE = sct.oracle.ProductMixture(jnp.array([-1.0, 1.0]), 0.3, jnp.eye(1))
"""Two modes on a line."""


def trained(
    objective: Callable[..., Any],
    model: T,
    draw: Callable[[Any], Any],
    *,
    updates: int,
    key: Any,
) -> T:
    """The average of decay 0.98 after a run of Adam, its rate falling to 0 by a cosine; `draw(key)` is a batch."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, updates))
    weights, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(weights: Any, step: Any) -> Any:
        data, draws = jr.split(jr.fold_in(key, step))
        return objective(eqx.combine(weights, rest), draw(data), step, key=draws)[0]

    def update(carry: Any, step: Any) -> Any:
        weights, average, moments = carry
        change, moments = optimizer.update(jax.grad(loss)(weights, step), moments, weights)
        weights = optax.apply_updates(weights, change)
        return (weights, optax.incremental_update(weights, average, 1 - DECAY), moments), None

    run = jax.jit(lambda carry: jax.lax.scan(update, carry, jnp.arange(updates))[0])
    return eqx.combine(run((weights, weights, optimizer.init(weights)))[1], rest)


def points(truth: sct.oracle.ProductMixture, n: int, *, key: Any) -> jax.Array:
    """Samples of the law, shape `(n, size)`."""
    return jax.vmap(lambda key: truth.sample(key=key))(jr.split(key, n))


def errors(truth: sct.oracle.ProductMixture, model: sct.ConsistencyModel) -> list[float]:
    """By level, the root mean square of `|f - end|` over 1,000 noised samples and the ends of their paths."""
    return [float(_error(truth, model, jnp.float32(sigma))) for sigma in LEVELS]


@eqx.filter_jit
def _error(truth: sct.oracle.ProductMixture, model: sct.ConsistencyModel, sigma: Any) -> Any:
    size = truth.rotation.shape[0]
    draw = lambda key: truth.sample(key=key) + sigma * jr.normal(jr.fold_in(key, 1), (size,))
    x_t = jax.vmap(draw)(jr.split(jr.key(0), 1_000))
    ends = jax.vmap(lambda x: truth.transport(x, sigma, 0.0))(x_t)
    found = jax.vmap(lambda x: model.endpoint(x, sigma))(x_t)
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(found - ends), axis=-1)))
