"""What is constant over a training run (`Recipe`) and what changes (`TrainState`)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Int

from .._check import check_fraction
from .._tree import trainable
from ..objectives.terms import Objective
from .placement import replicate


class Recipe(eqx.Module):
    """What is constant over a run.

    Args:
        objective: `(model, batch, step, *, key) -> (loss, terms)`.
        optimiser: an optax transformation over the model's trainable arrays.
        ema_decay: share of the old average kept at each update, in [0, 1); sampling uses the average.
        gradient_parts: also report the torso's gradient norm of the consistency and the denoising part; costs a second
            backward pass and needs an objective with `parts`.
    """

    objective: Objective
    optimiser: optax.GradientTransformation
    ema_decay: float = 0.9999
    gradient_parts: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_fraction("ema_decay", self.ema_decay)


class TrainState(eqx.Module):
    """What changes from update to update.

    `step` counts updates, skipped ones too; `skipped` those whose loss or gradient was not finite.
    """

    model: Any
    ema: Any
    optimiser_state: Any
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    mesh: Mesh | None = eqx.field(static=True, default=None)


def init_state(recipe: Recipe, model: Any, *, mesh: Mesh | None = None) -> TrainState:
    """The state before the first update; the model's arrays are copied, never shared, since `train_step` donates them.

    Args:
        recipe: the run's constants.
        model: what the recipe's objective takes.
        mesh: devices to train on (`data_mesh()`); None is JAX's default device.
    """
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        model=model,
        ema=model,
        optimiser_state=jax.jit(recipe.optimiser.init)(eqx.filter(model, trainable(model))),
        step=zero,
        skipped=zero,
        mesh=mesh,
    )
    copy = jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, state)
    return copy if mesh is None else replicate(copy, mesh)
