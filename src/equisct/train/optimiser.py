"""Optimisers of optax: given what some want beside the gradient; begun anew at the stages of a curriculum."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._base.check import check_at_least
from .._base.dtypes import usual_promotion
from .._base.types import Scalar


def update_by(
    optimiser: optax.GradientTransformation,
    gradient: PyTree,
    state: PyTree,
    parameters: PyTree,
    *,
    loss: Scalar,
    loss_of: Callable[[PyTree], Scalar],
) -> tuple[PyTree, PyTree]:
    """The optimiser's updates and its next state; it is told the loss and the loss's function, if it takes them.

    Args:
        optimiser: an optax transformation.
        gradient: of the loss.
        state: the optimiser's.
        parameters: at which the gradient was taken.
        loss: there.
        loss_of: the loss of the same batch and draws at other parameters, for line searches and curvatures.
    """

    def value_fn(parameters: PyTree, *, obj_fn: object = None, grad_fn: object = None) -> Scalar:
        del obj_fn, grad_fn  # a line search hands on what it does not know itself
        return loss_of(parameters)

    grad_fn = lambda parameters, _=0: jax.grad(loss_of)(parameters)
    told = {"value": loss, "grad": gradient, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
    with usual_promotion():
        return optimiser.update(gradient, state, parameters, **_taken(optimiser, told))


def _taken(optimiser: optax.GradientTransformation, told: dict[str, Any]) -> dict[str, Any]:
    """What of these arguments the optimiser's update has in its signature."""
    found = inspect.signature(optimiser.update).parameters.values()
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in found)
    return {name: value for name, value in told.items() if takes_all or name in {each.name for each in found}}


class RestartState(NamedTuple):
    """The updates done, and the state of the optimiser inside."""

    done: jax.Array
    inner: PyTree


def restarting(optimiser: optax.GradientTransformation, at: tuple[int, ...]) -> optax.GradientTransformationExtraArgs:
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

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, RestartState]:
        begins = jnp.any(state.done == jnp.asarray(at, jnp.int32))
        fresh = optimiser.init(updates if params is None else params)
        inner = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, state.inner)
        updates, inner = optimiser.update(updates, inner, params, **_taken(optimiser, extra))
        return updates, RestartState(state.done + 1, inner)

    return optax.GradientTransformationExtraArgs(init, update)
