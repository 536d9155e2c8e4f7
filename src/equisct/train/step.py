"""One optimiser update: a single jitted function that donates the state and is compiled once for a whole run."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from .._tree import global_norm, lerp, trainable
from .._types import Key, Scalar
from ..model import ScoreGuidedModel
from .placement import keep_replicated, shard_batch
from .state import Recipe, TrainState


class StepReport(eqx.Module):
    """What one update reports: loss, the objective's terms, gradient norms over the torso, whether it was taken.

    The norms are over the consistency model's parameters (the paper's Figure 2), before the optimiser. Those per part
    are None unless `Recipe.gradient_parts` is on.
    """

    loss: Scalar
    terms: Any
    gradient_norm: Scalar
    consistency_gradient_norm: Scalar | None
    denoising_gradient_norm: Scalar | None
    finite: Bool[Array, ""]


def torso(model: Any) -> Any:
    """The part of a model whose gradient norm is reported: the consistency model of a pair, else all of it."""
    return model.cm if isinstance(model, ScoreGuidedModel) else model


def _gradients(recipe: Recipe, state: TrainState, batch: Array, key: Key) -> tuple[Any, StepReport]:
    parameters, rest = eqx.partition(state.model, trainable(state.model))

    if not recipe.gradient_parts:

        def loss_of(parameters: Any) -> tuple[Scalar, Any]:
            return recipe.objective(eqx.combine(parameters, rest), batch, state.step, key=key)

        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
        parts = (None, None)
    else:

        def parts_of(parameters: Any) -> tuple[Any, Any]:
            return recipe.objective.parts(eqx.combine(parameters, rest), batch, state.step, key=key)  # type: ignore[attr-defined]

        losses, pullback, terms = jax.vjp(parts_of, parameters, has_aux=True)
        loss = losses.total()
        one, zero = jnp.ones_like(loss), jnp.zeros_like(loss)
        (of_consistency,) = pullback(type(losses)(consistency=one, denoising=zero))
        (of_denoising,) = pullback(type(losses)(consistency=zero, denoising=one))
        gradients = jax.tree.map(jnp.add, of_consistency, of_denoising)
        parts = (global_norm(torso(of_consistency)), global_norm(torso(of_denoising)))

    finite = jnp.isfinite(loss) & jnp.isfinite(global_norm(gradients))
    return gradients, StepReport(loss, terms, global_norm(torso(gradients)), *parts, finite)


def _where(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o) if eqx.is_array(n) else n, new, old)


@eqx.filter_jit(donate="all-except-first")
def _update(constants: tuple[Recipe, Array, Key], state: TrainState) -> tuple[TrainState, StepReport]:
    recipe, batch, key = constants
    gradients, report = _gradients(recipe, state, batch, key)
    parameters = eqx.filter(state.model, trainable(state.model))
    updates, optimiser_state = recipe.optimiser.update(gradients, state.optimiser_state, parameters)
    model = eqx.apply_updates(state.model, updates)
    # The first two updates overwrite the average, as in the authors' code; then it is an average from there on.
    ema = lerp(state.ema, model, jnp.where(state.step < 2, 1.0, 1.0 - recipe.ema_decay))
    taken = _where(report.finite, (model, ema, optimiser_state), (state.model, state.ema, state.optimiser_state))
    skipped = state.skipped + 1 - report.finite.astype(jnp.int32)
    new = TrainState(*taken, step=state.step + 1, skipped=skipped, mesh=state.mesh)
    return (new if state.mesh is None else keep_replicated(new, state.mesh)), report


def train_step(
    recipe: Recipe, state: TrainState, batch: Float[Array | np.ndarray, "batch *shape"], key: Key
) -> tuple[TrainState, StepReport]:
    """One update; `state` is donated, so use only the one returned.

    An update whose loss or gradient is not finite leaves model, average and optimiser as they were; it is counted in
    the state, and `step` still advances.

    Args:
        recipe: the run's constants; the same object in every call, or the step is compiled again.
        state: from `init_state` or the previous call.
        batch: float32 samples in the data's units, `(batch, *shape)`.
        key: this update's key, such as `jax.random.fold_in(key, step)`.

    Raises:
        ValueError: if the batch cannot be divided among the devices.
    """
    batch = batch if state.mesh is None else shard_batch(batch, state.mesh)
    return _update((recipe, jnp.asarray(batch), key), state)
