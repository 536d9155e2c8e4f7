"""The velocity slot: `velocity(model, draw, student) -> field`, where the small step's direction comes from.

`E[z | x_t]` is the PF-ODE's velocity; the sources differ in what stands for that mean: one sample, a denoiser, the
model's own score head or its average, the training set itself (exactly, or a random part of it), or a mix of two.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import given
from .._base.check import check_at_least, check_share
from .._base.concrete import check_answer, check_array, concrete, one_number
from .._base.types import Denoiser, Level, Sample
from ..diffusion import pf_drift
from ..model import ScoreGuidedModel, WithTeacher, student_of
from ..oracle import Empirical
from .readout import TorsoPass
from .slots import Draw, Field, Velocity


def one_sample_velocity(model: PyTree, draw: Draw, student: TorsoPass) -> Field:
    """Consistency training's unbiased estimate of the PF-ODE's velocity: the noise `z` of this very sample."""
    del model, student
    return lambda x_t, sigma: draw.z


class DenoiserVelocity(eqx.Module):
    """The velocity of a frozen denoiser, `(x_t - denoised) / sigma`: consistency distillation.

    Args:
        denoise: posterior mean of one sample: a trained network, an oracle, a function of yours; it takes `condition`
            too if the batches have any.

    Raises:
        ValueError: while tracing, if its answer has not the sample's shape.
    """

    denoise: Denoiser

    def __call__(self, model: PyTree, draw: Draw, student: TorsoPass) -> Field:
        del model, student
        denoise, told = self.denoise, given(draw.condition)
        denoised = lambda x_t, sigma: check_answer("denoise", denoise(x_t, sigma, **told), x_t)
        return lambda x_t, sigma: pf_drift(denoised(x_t, sigma), x_t, sigma)


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


def teacher_head_velocity(model: PyTree, draw: Draw, student: TorsoPass) -> Field:
    """The velocity of the teacher's score head, whose weights are an average of the model's: calmer, and a bit behind.

    Train with `Recipe.teacher_share`, the newest weights' share in that average. The teacher's torso runs at every
    evaluation, its dropout and the head's off.

    Raises:
        TypeError: if the model comes without a teacher, or the teacher has no score head.
    """
    if not isinstance(model, WithTeacher):
        raise TypeError(f"model: expected a WithTeacher (set Recipe.teacher_share), found {type(model).__name__}")
    pair = model.teacher
    if not isinstance(pair, ScoreGuidedModel):
        raise TypeError(
            f"model: expected a teacher with a score head, a ScoreGuidedModel, found one of {type(pair).__name__}"
        )
    return DenoiserVelocity(pair.denoise)(model, draw, student)


class ReferenceVelocity(eqx.Module):
    """The velocity under the posterior mean over the sample itself and random others of its data set.

    Given `x_t`, its mean over the draws is the whole set's posterior mean, however few the references are: the sample
    is one of them as likely as any other (Xu et al. 2023, stable target field; Wang et al. 2024 for consistency). So
    there is no bias, but the fewer there are the more noise stays. Each sample has references of its own, `size` times
    a sample in memory: for sets that are too large for `DenoiserVelocity(Empirical(points).denoise)`.

    Args:
        points: what the batches are drawn from, one sample per row, each augmented form (mirrored images) among them.
        size: of the references with the sample itself, >= 1, at most as many as there are points; 1 is
            `one_sample_velocity`.
    """

    points: Float[Array, "n *shape"]
    size: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_array("points", self.points)
        check_at_least("size", self.size, 1)
        if self.size > len(self.points):
            expected = f"at most as many references as points, {len(self.points)}"
            raise ValueError(f"size: expected {expected}, found {self.size}; for all take Empirical(points).denoise")

    def __call__(self, model: PyTree, draw: Draw, student: TorsoPass) -> Field:
        if self.points.shape[1:] != draw.x.shape:
            raise ValueError(f"points: expected samples of shape {draw.x.shape}, found {self.points.shape[1:]}")
        chosen = jr.randint(draw.keys.velocity, (self.size - 1,), 0, len(self.points))
        references = jnp.concatenate([draw.x[None], self.points[chosen]])
        return DenoiserVelocity(Empirical(references).denoise)(model, draw, student)


class MixedVelocity(eqx.Module):
    """`share` of one velocity and the rest of another.

    Args:
        first: a velocity.
        second: another.
        share: of the first, in [0, 1]: a number, or `draw -> number`, which may depend on `draw.pair.t` (per level) and
            `draw.step` (over the training); what is beyond [0, 1] is clipped, since nobody sees it while training.
    """

    first: Velocity
    second: Velocity
    share: Level | Callable[[Draw], Level]

    def __check_init__(self) -> None:
        found = None if callable(self.share) else concrete(self.share)
        if found is not None:
            check_share("share", float(found))

    def __call__(self, model: PyTree, draw: Draw, student: TorsoPass) -> Field:
        first, second = (velocity(model, draw, student) for velocity in (self.first, self.second))
        share = self.share
        if callable(share):
            share = jnp.clip(one_number("share", share(draw)).astype(draw.x.dtype), 0, 1)
        return lambda x_t, sigma: share * first(x_t, sigma) + (1 - share) * second(x_t, sigma)


def reads_head(velocity: Velocity) -> bool:
    """Whether a velocity of this library comes, in part too, from a score head that is being trained."""
    if isinstance(velocity, MixedVelocity):
        return reads_head(velocity.first) or reads_head(velocity.second)
    return velocity is head_velocity or velocity is teacher_head_velocity
