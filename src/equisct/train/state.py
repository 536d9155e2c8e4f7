"""What is constant over a training run (`Recipe`) and what changes (`TrainState`)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Int, PyTree

from .._base.check import check_at_least, check_positive
from .._base.dtypes import usual_promotion
from .._base.tree import count, in_short, trainable
from .._base.types import Scalar, Step
from ..model import WithTeacher, in_precision
from ..objectives.terms import AbstractSplitObjective, Objective, SplitObjective
from .averages import AbstractAverage, ConstantDecay
from .placement import place, state_sharding


class Recipe(eqx.Module):
    """What is constant over a run.

    Args:
        objective: `(model, batch, step, *, key) -> (loss, terms)`.
        optimiser: an optax transformation over the model's trainable arrays; one that takes `value`, `grad` and
            `value_fn` (`reduce_on_plateau`, line searches) is given those of the loss of the update's own batch.
        average: of the weights, for sampling: `TrainState.ema`.
        averages: further ones to keep beside it, such as `PowerFunction(6.94)`: `TrainState.averages`.
        teacher_share: keep a teacher, which the objective gets beside the model (`WithTeacher`): the share of the
            newest weights that it takes in at the end of each update, `step -> [0, 1]`, such as a curriculum's
            `teacher_share`; at exactly 1 it becomes the model, also where the update itself was not finite.
        gradient_parts: also report the torso's gradient norm of each part of the loss; costs a backward pass for each
            and needs a `SplitObjective`.
        gradient_ratios: part of the loss -> how many times as long as that of all other parts its gradient over the
            torso is made, > 0; at every update, by a factor of this part's gradient, of its head's too. Where either is
            0 the factor is 1. Loss and terms stay as they are. Costs what `gradient_parts` costs.
        microbatches: parts that each batch is computed in, one after the other, >= 1: less memory for activations, the
            same update. More than one needs a `SplitObjective`.
        compute_dtype: of the networks' inside, such as `jnp.bfloat16`; parameters, noise embedding, loss and its
            weights are float32 whatever it is. It reaches every network, yours too, inside a `ConsistencyModel`,
            `ScoreHead` or `DenoisingModel` in the model (`in_precision`); a model without any of them is refused.
    """

    objective: Objective
    optimiser: optax.GradientTransformation
    average: AbstractAverage = ConstantDecay()
    averages: tuple[AbstractAverage, ...] = ()
    teacher_share: Callable[[Step], Scalar] | None = None
    gradient_parts: bool = eqx.field(static=True, default=False)
    gradient_ratios: Mapping[str, float] = eqx.field(default_factory=dict)
    microbatches: int = eqx.field(static=True, default=1)
    compute_dtype: DTypeLike = eqx.field(static=True, default=jnp.float32)

    def __check_init__(self) -> None:
        check_at_least("microbatches", self.microbatches, 1)
        for part, ratio in self.gradient_ratios.items():
            check_positive(f"gradient_ratios[{part!r}]", ratio)
        splits = isinstance(self.objective, SplitObjective)
        wanted = {
            "gradient_parts": self.gradient_parts,
            "gradient_ratios": bool(self.gradient_ratios),
            "microbatches": self.microbatches > 1,
        }
        for name, asked in wanted.items():
            if asked and not splits:
                found = type(self.objective).__name__
                raise ValueError(f"{name}: expected an objective with draw, sample_losses and reduce, found {found}")

    @property
    def by_parts(self) -> bool:
        """Whether the gradient is taken part by part of the loss."""
        return self.gradient_parts or bool(self.gradient_ratios)


class TrainState(eqx.Module):
    """What changes from update to update.

    `ema` is the average of `Recipe.average`, `averages` those of `Recipe.averages`, in their order; `teacher` is None
    without `Recipe.teacher_share`. `step` counts updates, skipped ones too; `skipped` those whose loss or gradient was
    not finite, `skipped_in_row` the last of them in a row.
    """

    model: PyTree
    ema: PyTree
    averages: tuple[Any, ...]
    optimiser_state: PyTree
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    skipped_in_row: Int[Array, ""]
    teacher: PyTree = None
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; what it holds prints whole, `print(state.model)`."""
        return in_short(self, f"step={self.step}, {count(self.model):,} parameters")

    @property
    def objective_model(self) -> PyTree:
        """The model as the objective takes it: `WithTeacher`, if there is one."""
        return self.model if self.teacher is None else WithTeacher(self.model, self.teacher)


def init_state(recipe: Recipe, model: PyTree, *, mesh: Mesh | None = None) -> TrainState:
    """The state before the first update; the model's arrays are copied, never shared, since `train_step` donates them.

    Args:
        recipe: the run's constants.
        model: what the recipe's objective takes; the same in every process.
        mesh: devices to train on (`data_mesh()`); None is JAX's default device.

    Raises:
        TypeError: if the objective cannot train such a model, or `compute_dtype` does not apply to it.
    """
    in_precision(model, recipe.compute_dtype)
    if isinstance(recipe.objective, AbstractSplitObjective):
        recipe.objective.check(model)
    zero = jnp.zeros((), jnp.int32)
    with usual_promotion():
        optimiser_state = jax.jit(recipe.optimiser.init)(eqx.filter(model, trainable(model)))
    state = TrainState(
        model=model,
        ema=model,
        averages=(model,) * len(recipe.averages),
        optimiser_state=optimiser_state,
        step=zero,
        skipped=zero,
        skipped_in_row=zero,
        teacher=None if recipe.teacher_share is None else model,
        mesh=mesh,
    )
    copy = jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, state)
    return copy if mesh is None else place(copy, mesh)


def state_by_shape(recipe: Recipe, model: Callable[[], PyTree], *, mesh: Mesh) -> TrainState:
    """The shapes of `init_state(recipe, model(), mesh=mesh)`, each with its layout; nothing is computed or kept."""

    def laid_out(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=state_sharding(leaf.shape, mesh))

    # Not placed: what several processes share cannot be laid out while it is only traced.
    whole = lambda: dataclasses.replace(init_state(recipe, model()), mesh=mesh)
    return jax.tree.map(laid_out, eqx.filter_eval_shape(whole))
