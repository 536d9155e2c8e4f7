"""The gradient of one batch: in one piece or in microbatches, as a whole or part by part, in the chosen precision."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Float, PyTree

from .._base.tree import global_norm, trainable
from .._base.types import Key, Scalar, Step
from ..model import Taught, consistency_part, in_precision, student_of
from ..objectives.terms import Parts, SplitObjective
from .placement import keep_divided, keep_placed, keep_whole
from .state import Recipe


class Gradient(eqx.Module):
    """A batch's gradient over the trainable arrays, its loss and terms, and norms of parts over the torso or None."""

    gradient: PyTree
    loss: Scalar
    terms: PyTree
    consistency_norm: Scalar | None = None
    denoising_norm: Scalar | None = None


def batch_gradient(
    recipe: Recipe,
    model: PyTree,
    batch: Float[Array, "batch *shape"],
    step: Step,
    *,
    key: Key,
    mesh: Mesh | None = None,
) -> Gradient:
    """The gradient of the recipe's objective over one batch, laid out on `mesh`; of a `Taught` model, the student's."""
    parameters, rest = eqx.partition(student_of(model), trainable(student_of(model)))

    def prepared(model: PyTree) -> PyTree:
        model = keep_whole(model, mesh)
        return model if recipe.compute_dtype == jnp.float32 else in_precision(model, recipe.compute_dtype)

    def whole(parameters: PyTree) -> PyTree:
        student = prepared(eqx.combine(parameters, rest))
        return Taught(student, prepared(model.teacher)) if isinstance(model, Taught) else student

    objective = recipe.objective
    if isinstance(objective, SplitObjective):
        draws = keep_divided(objective.draw(batch, step, key=key), mesh)
        parts_of = lambda parameters, draws: _parts(objective, whole(parameters), draws)
        gradients, losses = _accumulate(recipe, parts_of, parameters, draws, mesh)
        parts, terms = objective.reduce(losses)
        return _collect(recipe, gradients, parts, terms)

    def loss_of(parameters: PyTree) -> tuple[Scalar, PyTree]:
        return objective(whole(parameters), batch, step, key=key)

    (loss, terms), gradient = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    return Gradient(gradient, loss, terms)


def _parts(objective: SplitObjective, model: PyTree, draws: PyTree) -> tuple[Parts, PyTree]:
    losses = objective.sample_losses(model, draws)
    return objective.reduce(losses)[0], losses


def _gradients(
    recipe: Recipe, parts_of: Callable[[PyTree, PyTree], tuple[Parts, PyTree]], parameters: PyTree, draws: PyTree
) -> tuple[tuple[PyTree, ...], PyTree]:
    """The gradient of the loss, or of each of its two parts if the recipe asks, and every sample's losses."""
    parts, pullback, losses = jax.vjp(lambda parameters: parts_of(parameters, draws), parameters, has_aux=True)
    one, zero = jnp.ones_like(parts.consistency), jnp.zeros_like(parts.consistency)
    cotangents = (Parts(one, zero), Parts(zero, one)) if recipe.gradient_parts else (Parts(one, one),)
    return tuple(pullback(cotangent)[0] for cotangent in cotangents), losses


def _accumulate(
    recipe: Recipe,
    parts_of: Callable[[PyTree, PyTree], tuple[Parts, PyTree]],
    parameters: PyTree,
    draws: PyTree,
    mesh: Mesh | None,
) -> tuple[tuple[PyTree, ...], PyTree]:
    """`_gradients` of the whole batch, in microbatches one after the other: their mean, and the losses in order."""
    count = recipe.microbatches
    if count == 1:
        return _gradients(recipe, parts_of, parameters, draws)

    def split(leaf: Array) -> Array:
        if leaf.shape[0] % count:
            raise ValueError(f"microbatches: expected a divisor of the batch's {leaf.shape[0]} samples, found {count}")
        # Microbatch m is samples m, m + count, ...: each device goes through samples that it holds already.
        return jnp.moveaxis(leaf.reshape(-1, count, *leaf.shape[1:]), 1, 0)

    def add(total: PyTree, draws: PyTree) -> tuple[PyTree, PyTree]:
        gradients, losses = _gradients(recipe, parts_of, parameters, keep_divided(draws, mesh))
        return keep_placed(jax.tree.map(jnp.add, total, gradients), mesh), losses

    zeros = (jax.tree.map(jnp.zeros_like, parameters),) * (2 if recipe.gradient_parts else 1)
    total, losses = jax.lax.scan(add, zeros, keep_divided(jax.tree.map(split, draws), mesh, axis=1))
    joined = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), losses)
    return jax.tree.map(lambda leaf: leaf / count, total), joined


def _collect(recipe: Recipe, gradients: tuple[PyTree, ...], parts: Parts, terms: PyTree) -> Gradient:
    if not recipe.gradient_parts:
        return Gradient(gradients[0], parts.total(), terms)
    norms = [global_norm(consistency_part(gradient)) for gradient in gradients]
    return Gradient(jax.tree.map(jnp.add, *gradients), parts.total(), terms, *norms)
