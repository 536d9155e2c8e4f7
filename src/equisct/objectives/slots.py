"""The slots of the consistency template that are not levels, distances or weightings: velocity, step, bootstrap.

`velocity(model, draw, student) -> field` says where the small step's direction comes from, `step(field, x_t, pair)`
takes it to `x_r`, and `bootstrap(model)` is the teacher that is evaluated there. `model` is what the objective is
given: a consistency model, a pair with a score head, or either with its teacher (`WithTeacher`); `student` is the
student's pass at `x_t`. The template stops the gradients of what it hands to the slots and of what they return.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import as_example, given
from .._base.random import draw_normal
from .._base.types import Denoiser, Examples, Key, Level, Sample, Step
from ..diffusion import euler_step, pf_drift
from ..discretization import LevelPair
from ..level_sampling import AbstractLevels, independent, stratified
from ..model import Readout, ScoreGuidedModel, WithTeacher, consistency_part, student_of
from .readout import TorsoPass


class Keys(eqx.Module):
    """One sample's key, split once: for the student's pass, for the teacher's, and for who reads the student's."""

    student: Key
    teacher: Key
    head: Key

    @staticmethod
    def from_key(key: Key, *, share_dropout: bool) -> "Keys":
        """With `share_dropout` the teacher has the student's key: the same dropout bits in every layer."""
        student, teacher, head = jr.split(key, 3)
        return Keys(student, student if share_dropout else teacher, head)


class Draw(eqx.Module):
    """Everything random and given about one sample of a consistency step."""

    x: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    pair: LevelPair
    keys: Keys
    condition: Any = None


def draw_pairs(
    levels: AbstractLevels, stage: Step, batch: Examples, *, stratify: bool, share_dropout: bool = True, key: Key
) -> Draw:
    """The noise, level pair and keys of every sample (a batched `Draw`)."""
    x, condition = as_example(batch)
    level_key, noise_key, model_key = jr.split(key, 3)
    spread = stratified if stratify else independent
    pair = jax.vmap(lambda u: levels.draw(stage, u))(spread(len(x), key=level_key))
    z = draw_normal(x.shape, x.dtype, key=noise_key)
    keys = jax.vmap(lambda key: Keys.from_key(key, share_dropout=share_dropout))(jr.split(model_key, len(x)))
    return jax.vmap(Draw)(x, z, pair, keys, condition)


Field: TypeAlias = Callable[[Array, Level], Array]
"""`(x_t, sigma) -> velocity`: the PF-ODE's right-hand side `dx_t / dsigma`, or an estimate of it."""

Velocity: TypeAlias = Callable[[Any, Draw, TorsoPass], Field]
Stepper: TypeAlias = Callable[[Field, Array, LevelPair], Array]
Teacher: TypeAlias = Callable[..., Readout]
"""`(x_t, sigma, *, key=None) -> Readout`: a consistency model, or anything that can be called like one.

Where a draw has one, `condition` is an argument too.
"""

Bootstrap: TypeAlias = Callable[[Any], Teacher]


# --- velocities ---


def one_sample_velocity(model: PyTree, draw: Draw, student: TorsoPass) -> Field:
    """Consistency training's unbiased estimate of the PF-ODE's velocity: the noise `z` of this very sample."""
    del model, student
    return lambda x_t, sigma: draw.z


class DenoiserVelocity(eqx.Module):
    """The velocity of a frozen denoiser, `(x_t - denoised) / sigma`: consistency distillation.

    Args:
        denoise: posterior mean of one sample: a trained network, an oracle, a function of yours; it takes `condition`
            too if the batches have any.
    """

    denoise: Denoiser

    def __call__(self, model: PyTree, draw: Draw, student: TorsoPass) -> Field:
        del model, student
        denoise, told = self.denoise, given(draw.condition)
        return lambda x_t, sigma: pf_drift(denoise(x_t, sigma, **told), x_t, sigma)


def head_velocity(model: PyTree, draw: Draw, student: TorsoPass) -> Field:
    """The velocity of the model's own score head, cut: distillation of what is being trained beside it.

    At `x_t` itself the head reads the student's pass, so that an Euler step costs the head alone; elsewhere (Heun's
    second evaluation) the torso runs anew, with the student's dropout bits: one and the same thinned network gives the
    velocity along the step and the endpoint. The head's own dropout is off.

    Raises:
        TypeError: if the model has no score head.
    """
    pair = student_of(model)
    if not isinstance(pair, ScoreGuidedModel):
        raise TypeError(
            f"model: expected a ScoreGuidedModel, whose head gives the velocity, found {type(pair).__name__}"
        )

    def denoise(x_t: Sample, sigma: Level, **told: PyTree) -> Sample:
        known = x_t is student.x_t and sigma is student.sigma  # the very arrays: equal ones only cost another pass
        readout = student.readout if known else pair.cm(x_t, sigma, key=draw.keys.student, **told)
        return pair.head(x_t, sigma, readout)

    return DenoiserVelocity(denoise)(model, draw, student)


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


def same_weights(model: PyTree) -> Teacher:
    """The current weights (improved consistency training has no moving-average teacher)."""
    return consistency_part(model)


def teacher_weights(model: PyTree) -> Teacher:
    """The weights of the teacher that training keeps beside the model (`train.Recipe.teacher_share`).

    Raises:
        TypeError: if the model comes without a teacher.
    """
    if not isinstance(model, WithTeacher):
        raise TypeError(f"model: expected a WithTeacher (set Recipe.teacher_share), found {type(model).__name__}")
    return consistency_part(model.teacher)
