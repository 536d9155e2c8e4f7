"""Parts of a loss that count by the number of the update: denoise first, the head late or early, any ramp."""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, PyTree

from .._base.concrete import one_number
from .._base.tree import batch_size
from .._base.types import Batch, Key, Level, Step
from .terms import AbstractSplitObjective, Part, Terms


class AtStep(eqx.Module):
    """Something of each sample of a batch, draws or losses, and the number of updates done, as often."""

    value: PyTree
    step: Int[Array, " batch"]


class ScaledParts(AbstractSplitObjective):
    """An objective whose parts' weights are multiplied by factors that depend on the update.

    `ScaledParts(objective, {"consistency": lambda step: step >= 1_000})` denoises first; a factor of `"denoising"` that
    falls to 0 keeps the score head for the beginning. A part of factor 0 has no gradient, but is computed and reported
    as ever: for a phase that does not pay for it, train with two recipes, one after the other, from the same state.

    Args:
        base: an objective in three steps, such as a `ScoreGuided`.
        factors: part -> `step -> number`, `step` the updates done, such as an optax schedule; parts without one keep
            their weight.

    Raises:
        ValueError: while tracing, for a part that the objective does not have, or a factor that is not one number.
    """

    base: AbstractSplitObjective
    factors: Mapping[str, Callable[[Step], Level]]

    def check(self, model: PyTree) -> None:
        """As the base objective does."""
        self.base.check(model)

    def draw(self, batch: Batch, step: Step, *, key: Key) -> AtStep:
        """As the base objective draws."""
        draws = self.base.draw(batch, step, key=key)
        return AtStep(draws, jnp.full(batch_size(draws), step))

    def sample_losses(self, model: PyTree, draws: AtStep) -> AtStep:
        """The base objective's losses."""
        return AtStep(self.base.sample_losses(model, draws.value), draws.step)

    def reduce(self, losses: AtStep) -> Terms:
        """The base objective's terms, with the weights of this update."""
        terms, step = self.base.reduce(losses.value), losses.step.max()  # of equal numbers, wherever they lie
        if unknown := sorted(self.factors.keys() - terms.parts.keys()):
            raise ValueError(f"factors: expected parts of the objective, {sorted(terms.parts)}, found {unknown[0]!r}")
        scaled = {}
        for name, factor in self.factors.items():
            part, number = terms.parts[name], one_number(f"factors[{name!r}]", factor(step))
            scaled[name] = Part(part.value, part.weight * number.astype(part.value.dtype))
        return Terms(terms.parts | scaled, terms.per_level)
