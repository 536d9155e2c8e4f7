"""Guidance inside training: the small step follows a guided velocity, and the model is told its scale.

One sample's noise is the velocity of its own condition and nobody else's, so it cannot be guided. A denoiser can: the
model's own score head, under the condition and under none, or the posterior mean over a labelled data set. The model
then samples in one step at any scale that it was trained for (a network with `nn.GuidanceEmbedding`).
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import PyTree

from .._base.batch import GuidedCondition
from .._base.check import check_fraction
from .._base.explain import show
from .._base.types import Batch, Denoiser, Key, Level, Sample, Step
from ..nn.condition import check_range
from .readout import TorsoPass
from .slots import Draw, Field, Velocity
from .terms import AbstractSplitObjective, SampleLoss, Terms
from .velocity import one_sample_velocity, reads_head


class GuidedVelocity(eqx.Module):
    """`v0 + scale (v - v0)`: a velocity under the sample's condition, led away from the one under no condition.

    The scale is the draw's (`RandomScales`). The model's own head is asked under condition and scale, of which it
    shares the student's pass, and under none, which is one more pass of torso and head; any other velocity under the
    condition alone.

    Args:
        velocity: `head_velocity`, or `DenoiserVelocity(denoise)` of a denoiser that takes `condition` or none, such as
            `oracle.Labelled(law, labels).denoise`.

    Raises:
        ValueError: for the one-sample velocity, which cannot be guided.
        TypeError: while tracing, if the draws come without scales.
    """

    velocity: Velocity

    def __check_init__(self) -> None:
        if self.velocity is one_sample_velocity:
            expected = "a denoiser's, such as head_velocity: one sample's noise knows of no other condition"
            raise ValueError(f"velocity: expected {expected}, found one_sample_velocity")

    def __call__(self, model: PyTree, draw: Draw, student: TorsoPass) -> Field:
        told = draw.condition
        if not isinstance(told, GuidedCondition):
            expected = "a GuidedCondition; put RandomScales around the objective"
            raise TypeError(f"condition: expected {expected}, found {show(told)}")

        def under(condition: PyTree, seen: TorsoPass) -> Field:
            seen = dataclasses.replace(seen, condition=condition)
            return self.velocity(model, dataclasses.replace(draw, condition=condition), seen)

        own = under(told if reads_head(self.velocity) else told.condition, student)
        # Another array: the student's pass is under the condition, and a head reads it at the student's own x_t.
        none = under(None, dataclasses.replace(student, x_t=jnp.array(student.x_t)))

        def field(x_t: Sample, sigma: Level) -> Array:
            away = none(x_t, sigma)
            return away + told.scale * (own(x_t, sigma) - away)

        return field


class AtScale(eqx.Module):
    """A denoiser under a `GuidedCondition`: under its condition, or under none where the scale is 0.

    What a score head learns beside a `GuidedVelocity`, as the `target` of `ScoreGuidedTraining`: not the guided mean.

    Args:
        denoise: posterior mean that takes `condition` or none, such as `oracle.Labelled(law, labels).denoise`.
    """

    denoise: Denoiser

    def __call__(self, x_t: Sample, sigma: Level, *, condition: GuidedCondition) -> Array:
        ask: Callable[..., Array] = self.denoise
        own, none = ask(x_t, sigma, condition=condition.condition), ask(x_t, sigma)
        return jnp.where(condition.scale > 0, own, none)


class RandomScales(AbstractSplitObjective):
    """Another objective, its samples' conditions with a random scale of guidance: uniform in a range, or 0.

    Args:
        base: an objective whose batches have conditions, such as a `ScoreGuidedTraining` with a `GuidedVelocity`.
        low: least scale, > 0.
        high: greatest scale.
        null: share of the samples with scale 0, in [0, 1): those that train without a condition.

    Raises:
        ValueError: while tracing, for batches without a condition.
    """

    base: AbstractSplitObjective
    low: float = 1.0
    high: float = 4.0
    null: float = 0.1

    def __check_init__(self) -> None:
        check_range(self.low, self.high)
        check_fraction("null", self.null)

    def check(self, model: PyTree) -> None:
        """As the base objective does."""
        self.base.check(model)

    def draw(self, batch: Batch, step: Step, *, key: Key) -> PyTree:
        """As the base objective draws, with a scale for each condition."""
        draws = self.base.draw(batch, step, key=key)
        condition = getattr(draws, "condition", None)
        if condition is None:
            raise ValueError(f"batch: expected an Example(x, condition), found {show(batch)}")
        scale_key, null_key = jr.split(jr.fold_in(key, _SCALES))
        size = len(jax.tree.leaves(condition)[0])
        scales = jr.uniform(scale_key, (size,), jnp.float32, self.low, self.high)
        scales = jnp.where(jr.uniform(null_key, (size,)) < self.null, 0, scales)
        told = lambda draw, scale: dataclasses.replace(draw, condition=GuidedCondition(draw.condition, scale))
        return jax.vmap(told)(draws, scales)

    def sample_losses(self, model: PyTree, draws: PyTree) -> dict[str, SampleLoss]:
        """As the base objective's."""
        return self.base.sample_losses(model, draws)

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """As the base objective does."""
        return self.base.reduce(losses)


_SCALES = 0x5CA1E
"""Told to the key, which the base objective splits."""
