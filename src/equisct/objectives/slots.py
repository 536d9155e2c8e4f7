"""The slots of the consistency template that are not levels, distances or weightings: velocity, step, bootstrap.

`velocity(model, draw) -> field` says where the small step's direction comes from, `step(field, x_t, pair) -> x_r` takes
it, and `bootstrap(model) -> cm` gives the map that judges its end. `model` is what the objective is given: a
consistency model, a pair with a score head, or either with its teacher (`Taught`). All three must give no gradient.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.random import draw_normal
from .._base.tree import cut
from .._base.types import Denoiser, Key, Level, Sample, Step
from ..diffusion import euler_step, pf_drift
from ..discretization import LevelPair
from ..level_sampling import AbstractLevels, independent, stratified
from ..model import Readout, ScoreGuidedModel, Taught, consistency_part, student_of


class Draw(eqx.Module):
    """Everything random and given about one sample of a consistency step."""

    x: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    pair: LevelPair
    key: Key


def draw_pairs(
    levels: AbstractLevels, stage: Step, batch: Float[Array, "batch *shape"], *, stratify: bool, key: Key
) -> Draw:
    """The noise, level pair and model key of every sample (a batched `Draw`)."""
    level_key, noise_key, model_key = jr.split(key, 3)
    spread = stratified if stratify else independent
    pair = jax.vmap(lambda u: levels.draw(stage, u))(spread(len(batch), key=level_key))
    z = draw_normal(batch.shape, key=noise_key).astype(batch.dtype)
    return jax.vmap(Draw)(batch, z, pair, jr.split(model_key, len(batch)))


Field: TypeAlias = Callable[[Array, Level], Array]
"""`(x_t, sigma) -> velocity`: the PF-ODE's right-hand side `dx_t / dsigma`, or an estimate of it."""

Velocity: TypeAlias = Callable[[Any, Draw], Field]
Stepper: TypeAlias = Callable[[Field, Array, LevelPair], Array]
Judge: TypeAlias = Callable[..., Readout]
"""`(x_t, sigma, *, key=None) -> Readout`: a consistency model, or anything that can be called like one."""

Bootstrap: TypeAlias = Callable[[Any], Judge]


# --- velocities ---


def one_sample_velocity(model: PyTree, draw: Draw) -> Field:
    """Consistency training's unbiased estimate of the PF-ODE's velocity: the noise `z` of this very sample."""
    del model
    return lambda x_t, sigma: draw.z


class DenoiserVelocity(eqx.Module):
    """The velocity of a frozen denoiser, `(x_t - denoised) / sigma`: consistency distillation.

    Args:
        denoise: posterior mean of one sample: a trained network, an oracle, a function of yours.
    """

    denoise: Denoiser

    def __call__(self, model: PyTree, draw: Draw) -> Field:
        del model, draw
        return lambda x_t, sigma: pf_drift(self.denoise(x_t, sigma), x_t, sigma)


def head_velocity(model: PyTree, draw: Draw) -> Field:
    """The velocity of the model's own score head, cut: distillation of what is being trained beside it.

    Raises:
        TypeError: if the model has no score head.
    """
    pair = student_of(model)
    if not isinstance(pair, ScoreGuidedModel):
        raise TypeError(
            f"model: expected a ScoreGuidedModel, whose head gives the velocity, found {type(pair).__name__}"
        )
    return DenoiserVelocity(cut(pair).denoise)(model, draw)


# --- steps ---


def straight_step(field: Field, x_t: Sample, pair: LevelPair) -> Sample:
    """An Euler step from `t` to `r`; with the one-sample velocity it ends at `x + r z`."""
    return euler_step(x_t, field(x_t, pair.t), pair.t, pair.r)


def heun_correction(field: Field, x_t: Sample, pair: LevelPair) -> Sample:
    """A Heun step from `t` to `r` (Karras et al. 2022, Algorithm 1): two evaluations, an error of order gap^3."""
    at_t = field(x_t, pair.t)
    at_r = field(euler_step(x_t, at_t, pair.t, pair.r), pair.r)
    return euler_step(x_t, (at_t + at_r) / 2, pair.t, pair.r)


# --- bootstraps ---


def same_weights(model: PyTree) -> Judge:
    """The current weights, cut (improved consistency training has no moving-average teacher)."""
    return cut(consistency_part(model))


def teacher_weights(model: PyTree) -> Judge:
    """The weights of the teacher that training keeps beside the model (`train.Recipe.teacher_share`), cut.

    Raises:
        TypeError: if the model comes without a teacher.
    """
    if not isinstance(model, Taught):
        raise TypeError(f"model: expected a Taught one (set Recipe.teacher_share), found {type(model).__name__}")
    return cut(consistency_part(model.teacher))
