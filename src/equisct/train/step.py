"""One optimiser update: a single jitted function that donates the state and is compiled once for a whole run."""

import warnings
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Int, PyTree

from .._base.batch import as_example
from .._base.tree import batch_size, global_norm, trainable
from .._base.types import Batch, Key, Scalar
from ..model import consistency_part
from ..objectives.border import UNSCALED
from .averages import update_average
from .gradient import GradientNoise, batch_gradient, batch_loss
from .optimiser import update_by
from .placement import keep_placed, shard_batch
from .state import Recipe, TrainState


class StepReport(eqx.Module):
    """What one update reports: loss, the objective's terms, gradient norms over the torso, whether it was taken.

    The norms are over the consistency model's parameters (the paper's Figure 2), before the optimiser. `gradient_norms`
    are those of the loss's parts, each with its weight and its factor (`Recipe.gradient_ratios`), by name; None unless
    `Recipe.gradient_parts` is on. `skipped_in_row` counts the updates up to this one that were not finite, one after
    the other. `noise` is what the microbatches tell of the noise of the gradient, before that factor; None if there is
    but one.
    """

    loss: Scalar
    terms: PyTree
    gradient_norm: Scalar
    gradient_norms: dict[str, Scalar] | None
    finite: Bool[Array, ""]
    skipped_in_row: Int[Array, ""]
    noise: GradientNoise | None = None


def _taught(recipe: Recipe, state: TrainState, model: PyTree, finite: Bool[Array, ""]) -> PyTree:
    """The teacher after the update that led to `model`."""
    if recipe.teacher_share is None:
        return None
    share = recipe.teacher_share(state.step)
    share = jnp.where(finite | (share == 1), share, 0.0)

    def mix(old: PyTree, new: PyTree) -> PyTree:
        # Unlike `lerp`, exact at both ends: a share of 0 leaves every bit, one of 1 takes every bit.
        if not eqx.is_inexact_array(old):
            return new
        own = share.astype(old.dtype)
        return jnp.where(own == 0, old, (1 - own) * old + own * new)

    return jax.tree.map(mix, state.teacher, model)


def _advance(constants: tuple[Recipe, Batch, Key], state: TrainState) -> tuple[TrainState, StepReport]:
    recipe, batch, key = constants
    found = batch_gradient(recipe, state.objective_model, batch, state.step, key=key, mesh=state.mesh)
    gradient = keep_placed(found.gradient, state.mesh)
    parameters = eqx.filter(state.model, trainable(state.model))
    loss_of = partial(batch_loss, recipe, state.objective_model, batch=batch, step=state.step, key=key, mesh=state.mesh)
    updates, optimiser_state = update_by(
        recipe.optimiser, gradient, state.optimiser_state, parameters, loss=found.loss, loss_of=loss_of
    )
    norms = jnp.stack([found.loss, global_norm(gradient), global_norm(updates)])
    finite = jnp.isfinite(norms).all()
    model = eqx.apply_updates(state.model, updates)
    rules = zip(recipe.averages, state.averages, strict=True)
    ema = update_average(recipe.average, state.ema, model, state.step)
    averages = tuple(update_average(rule, old, model, state.step) for rule, old in rules)
    taken = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old) if eqx.is_array(new) else new,
        (model, ema, averages, optimiser_state),
        (state.model, state.ema, state.averages, state.optimiser_state),
    )
    new = TrainState(
        *taken,
        step=state.step + 1,
        skipped=state.skipped + 1 - finite.astype(jnp.int32),
        skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        teacher=_taught(recipe, state, taken[0], finite),
        mesh=state.mesh,
    )
    norm = global_norm(consistency_part(gradient))
    report = StepReport(found.loss, found.terms, norm, found.part_norms, finite, new.skipped_in_row, found.noise)
    return keep_placed(new, state.mesh), report


_update = eqx.filter_jit(_advance, donate="all-except-first")


def train_step(recipe: Recipe, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, StepReport]:
    """One update; `state` is donated, so use only the one returned.

    An update whose loss or gradient is not finite leaves model, averages and optimiser as they were; it is counted in
    the state, and `step` still advances. Warns of samples in NumPy that are far larger than the model's `sigma_data`.

    Args:
        recipe: the run's constants; the same object in every call, or the step is compiled again.
        state: from `init_state` or the previous call.
        batch: what the recipe's objective takes: an array `(batch, *shape)` of samples in the data's units, an
            `Example`, a `Pair`, or any pytree of arrays of one first axis. Float64 becomes float32, whole numbers stay
            whole. With several processes, this one's rows.
        key: this update's key, such as `jax.random.fold_in(key, step)`; the same in every process.

    Raises:
        ValueError: if the batch's arrays are not of one first axis, or cannot be divided among the devices or into the
            recipe's microbatches; if `state` has been used up by an earlier call.
    """
    if not isinstance(state.step, Tracer) and state.step.is_deleted():
        raise ValueError("state: expected the one that the last train_step returned, found one that it has used up")
    _warn_of_scale(state.model, batch)
    return _update(_arguments(recipe, state, batch, key), state)


def compile_step(recipe: Recipe, state: TrainState, batch: Batch, key: Key) -> PyTree:
    """The program that `train_step` runs for such arguments, compiled but not run (a `jax.stages.Compiled`).

    Its `memory_analysis()` says what one device needs, its `as_text()` what is communicated. `state` may be shapes
    (`jax.ShapeDtypeStruct`s with their shardings) instead of arrays.
    """
    dynamic = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    constants, fixed = eqx.partition(_arguments(recipe, state, batch, key), eqx.is_array)
    arrays, rest = eqx.partition(state, dynamic)

    def update(constants: PyTree, arrays: PyTree) -> PyTree:
        return eqx.filter(_advance(eqx.combine(constants, fixed), eqx.combine(arrays, rest)), eqx.is_array)

    return jax.jit(update, donate_argnums=1).lower(constants, arrays).compile()


def _warn_of_scale(model: PyTree, batch: Batch) -> None:
    """Warns of a batch on the host that is far larger than the data the model's preconditioning is for."""
    x, form = as_example(batch).x, getattr(consistency_part(model), "preconditioning", None)
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim < 2 or not len(x) or form is None:
        return
    size, expected = float(np.sqrt(np.mean(np.square(x[0], dtype=np.float64)))), getattr(form, "sigma_data", 1.0)
    if size > UNSCALED * expected:
        warnings.warn(
            f"batch: expected samples of a size near sigma_data = {expected:g}, such as images in [-1, 1], found "
            f"numbers up to {x[0].max():.4g}; images in [0, 255] become x / 127.5 - 1",
            stacklevel=3,
        )


def _arguments(recipe: Recipe, state: TrainState, batch: Batch, key: Key) -> tuple[Recipe, Batch, Key]:
    batch_size(batch)  # says so if there is no such thing
    batch = batch if state.mesh is None else shard_batch(batch, state.mesh)
    return recipe, jax.tree.map(jnp.asarray, batch), key
