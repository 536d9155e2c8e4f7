"""The gradient of one batch: in one piece or in microbatches, as a whole or part by part, in the chosen precision."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jaxtyping import PyTree

from .._base.tree import batch_size, global_norm, trainable
from .._base.types import Batch, Key, Scalar, Step
from ..model import WithTeacher, consistency_part, in_precision, student_of
from ..objectives.terms import SplitObjective
from .placement import keep_divided, keep_placed, keep_whole
from .state import Recipe


class GradientNoise(eqx.Module):
    """Signal and noise of the torso's gradient, from the microbatches of one batch; without bias, so maybe negative.

    One batch tells little: compare means over many updates of one stage, and of those the ratio `noise / signal`, which
    is the critical batch (`sct.gradient_statistics` measures the same at frozen weights).

    Attributes:
        signal: `|E g|^2`.
        noise: `tr Cov g` of one sample.
    """

    signal: Scalar
    noise: Scalar

    @staticmethod
    def from_squares(gradient: PyTree, squares: Scalar, *, microbatches: int, size: int) -> "GradientNoise":
        """From the whole batch's gradient and the sum of the squared norms of its microbatches' gradients.

        With two microbatches: `<g_A, g_B>` and `|g_A - g_B|^2 / 2` times half the batch's `size`.
        """
        of_mean = jnp.square(global_norm(gradient))
        scatter = jnp.maximum(squares - microbatches * of_mean, 0) / (microbatches - 1)
        return GradientNoise(of_mean - scatter / microbatches, size // microbatches * scatter)


class Gradient(eqx.Module):
    """A batch's gradient over the trainable arrays, loss and terms, and norms of its parts over the torso or None.

    `noise` is of the loss before `Recipe.gradient_ratios`; None where the batch is computed in one piece.
    """

    gradient: PyTree
    loss: Scalar
    terms: PyTree
    part_norms: dict[str, Scalar] | None = None
    noise: GradientNoise | None = None


def batch_gradient(
    recipe: Recipe, model: PyTree, batch: Batch, step: Step, *, key: Key, mesh: Mesh | None = None
) -> Gradient:
    """The gradient of the recipe's objective over one batch, laid out on `mesh`; of a `WithTeacher`, the student's."""
    objective, parameters = recipe.objective, eqx.filter(student_of(model), trainable(student_of(model)))
    whole = partial(_prepared, recipe, model, mesh)
    if not isinstance(objective, SplitObjective):
        loss_of = lambda parameters: objective(whole(parameters), batch, step, key=key)
        (loss, terms), gradient = jax.value_and_grad(loss_of, has_aux=True)(parameters)
        return Gradient(gradient, loss, terms)

    def parts_of(parameters: PyTree, draws: PyTree) -> tuple[dict[str, Scalar], PyTree]:
        losses = objective.sample_losses(whole(parameters), draws)
        return objective.reduce(losses).weighted, losses

    draws = keep_divided(objective.draw(batch, step, key=key), mesh)
    gradients, losses, squares = _accumulate(recipe, parts_of, parameters, draws, mesh)
    terms, noise = objective.reduce(losses), None
    if squares is not None:
        torso, count, size = consistency_part(_sum(gradients)), recipe.microbatches, batch_size(draws)
        noise = GradientNoise.from_squares(torso, squares, microbatches=count, size=size)
    if recipe.gradient_ratios:
        gradients = _in_ratio(recipe.gradient_ratios, sorted(terms.parts), gradients)
    norms = [global_norm(consistency_part(gradient)) for gradient in gradients]
    named = dict(zip(sorted(terms.parts), norms, strict=True)) if recipe.gradient_parts else None
    return Gradient(_sum(gradients), terms.loss, terms, named, noise)


def _in_ratio(ratios: Mapping[str, float], parts: list[str], gradients: list[PyTree]) -> list[PyTree]:
    """The gradients of some parts made as long over the torso as `Recipe.gradient_ratios` says."""
    if not ratios.keys() < set(parts):
        raise ValueError(f"gradient_ratios: expected some of the parts {parts}, found {sorted(ratios)}")
    rest = _sum([gradient for part, gradient in zip(parts, gradients, strict=True) if part not in ratios])
    norm_of = lambda gradient: global_norm(consistency_part(gradient))

    def scaled(part: str, gradient: PyTree) -> PyTree:
        own, others = norm_of(gradient), norm_of(rest)
        factor = jnp.where((own > 0) & (others > 0), ratios[part] * others / jnp.where(own > 0, own, 1.0), 1.0)
        return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, gradient)

    return [scaled(part, each) if part in ratios else each for part, each in zip(parts, gradients, strict=True)]


def batch_loss(
    recipe: Recipe, model: PyTree, parameters: PyTree, batch: Batch, step: Step, *, key: Key, mesh: Mesh | None = None
) -> Scalar:
    """The loss that `batch_gradient` differentiates, at other parameters of the model; the batch in one piece."""
    return recipe.objective(_prepared(recipe, model, mesh, parameters), batch, step, key=key)[0]


def _prepared(recipe: Recipe, model: PyTree, mesh: Mesh | None, parameters: PyTree) -> PyTree:
    """The model, or the student of a `WithTeacher`, with these trainable arrays, as an objective evaluates it."""

    def prepared(model: PyTree) -> PyTree:
        return in_precision(keep_whole(model, mesh), recipe.compute_dtype)

    student = prepared(eqx.combine(parameters, student_of(model)))
    return WithTeacher(student, prepared(model.teacher)) if isinstance(model, WithTeacher) else student


PartsOf: TypeAlias = Callable[[PyTree, PyTree], tuple[dict[str, Scalar], PyTree]]
"""`(parameters, draws) -> (each part of the loss with its weight, the samples' losses)`."""


def _gradients(recipe: Recipe, parts_of: PartsOf, parameters: PyTree, draws: PyTree) -> tuple[list[PyTree], PyTree]:
    """The gradient of the loss, or of each of its parts (by name, ascending) if the recipe asks, and the losses."""
    parts, pullback, losses = jax.vjp(lambda parameters: parts_of(parameters, draws), parameters, has_aux=True)
    pick = lambda names: {name: jnp.full_like(parts[name], name in names) for name in parts}
    asked = [[name] for name in sorted(parts)] if recipe.by_parts else [list(parts)]
    return [pullback(pick(names))[0] for names in asked], losses


def _sum(gradients: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *gradients)


def _accumulate(
    recipe: Recipe, parts_of: PartsOf, parameters: PyTree, draws: PyTree, mesh: Mesh | None
) -> tuple[list[PyTree], PyTree, Scalar | None]:
    """`_gradients` of the whole batch, in microbatches one after the other: their mean, and the losses in order.

    Beside them the sum of the squared norms of the microbatches' own gradients, over the torso; None for one.
    """
    count = recipe.microbatches
    if count == 1:
        return *_gradients(recipe, parts_of, parameters, draws), None

    if (size := batch_size(draws)) % count:
        raise ValueError(f"microbatches: expected a divisor of the batch's {size} samples, found {count}")

    def split(leaf: Array) -> Array:
        # Microbatch m is samples m, m + count, ...: each device goes through samples that it holds already.
        return jnp.moveaxis(leaf.reshape(-1, count, *leaf.shape[1:]), 1, 0)

    def add(total: PyTree, draws: PyTree) -> tuple[PyTree, PyTree]:
        gradients, losses = _gradients(recipe, parts_of, parameters, keep_divided(draws, mesh))
        square = jnp.square(global_norm(consistency_part(_sum(gradients))))
        return keep_placed(jax.tree.map(jnp.add, total, gradients), mesh), (losses, square)

    gradients = len(jax.eval_shape(parts_of, parameters, draws)[0]) if recipe.by_parts else 1
    zeros = [jax.tree.map(jnp.zeros_like, parameters)] * gradients
    total, (losses, squares) = jax.lax.scan(add, zeros, keep_divided(jax.tree.map(split, draws), mesh, axis=1))
    joined = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), losses)
    return jax.tree.map(lambda leaf: leaf / count, total), joined, squares.sum()
