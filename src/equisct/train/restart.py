"""An optimiser that begins anew at the stages of a curriculum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._base.check import check_at_least


class RestartState(NamedTuple):
    """The updates done, and the state of the optimiser inside."""

    done: jax.Array
    inner: PyTree


def restarting(optimiser: optax.GradientTransformation, at: tuple[int, ...]) -> optax.GradientTransformation:
    """The optimiser with its state (moments and counters) as at the start before each of the updates `at`.

    Progressive distillation trains each student as a run of its own (Salimans & Ho 2022). Schedules inside begin anew
    too; one that spans the run belongs behind it, by `optax.chain`.

    Args:
        optimiser: an optax transformation whose `init` depends on shapes alone.
        at: updates, counted from 0, each > 0.

    Raises:
        ValueError: if one of `at` is not.
    """
    for start in at:
        check_at_least("at", start, 1)

    def init(params: PyTree) -> RestartState:
        return RestartState(jnp.zeros((), jnp.int32), optimiser.init(params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, RestartState]:
        begins = jnp.any(state.done == jnp.asarray(at, jnp.int32))
        fresh = optimiser.init(updates if params is None else params)
        inner = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, state.inner)
        updates, inner = optimiser.update(updates, inner, params)
        return updates, RestartState(state.done + 1, inner)

    return optax.GradientTransformation(init, update)
