"""The slots of the consistency template that are not levels, distances or weightings.

`coupling(x, z)` says which noise goes with which sample of a batch, `origin(model, draw)` to which clean sample the
noise is added, `velocity(model, draw, student) -> field` where the small step's direction comes from,
`step(field, x_t, pair)` takes it to `x_r`, and `bootstrap(model)` is the teacher that is evaluated there.

`model` is what the objective is given: a consistency model, a pair with a score head, or either with its teacher
(`WithTeacher`); `student` is the student's pass at `x_t`. The template stops the gradients of what it hands to the
slots and of what they return.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import as_example, given
from .._base.check import check_at_least, check_positive, check_share
from .._base.concrete import check_answer
from .._base.defaults import RHO
from .._base.explain import show
from .._base.random import draw_normal
from .._base.types import Examples, Key, Level, Sample, Step
from ..diffusion import euler_step, perturb
from ..discretization import LevelPair
from ..level_sampling import AbstractLevels, independent, stratified
from ..model import Readout, WithTeacher, consistency_part
from .readout import TorsoPass


class Keys(eqx.Module):
    """One sample's key, split once: for the student's pass, the teacher's, the student's reader, velocity, origin."""

    student: Key
    teacher: Key
    head: Key
    velocity: Key
    origin: Key

    @staticmethod
    def from_key(key: Key, *, share_dropout: bool) -> "Keys":
        """With `share_dropout` the teacher has the student's key: the same dropout bits in every layer."""
        student, teacher, head, velocity = jr.split(key, 4)
        return Keys(student, student if share_dropout else teacher, head, velocity, jr.fold_in(key, 4))


class Draw(eqx.Module):
    """Everything random and given about one sample of a consistency step; `step` is the number of updates done."""

    x: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    pair: LevelPair
    keys: Keys
    condition: Any = None
    step: Step = 0


Coupling: TypeAlias = Callable[[Array, Array], Array]
"""`(x, z) -> z`: which noise goes with which sample of the batch, a permutation of the given one."""


def draw_pairs(
    levels: AbstractLevels,
    stage: Step,
    batch: Examples,
    *,
    stratify: bool,
    share_dropout: bool = True,
    coupling: Coupling | None = None,
    step: Step = 0,
    key: Key,
) -> Draw:
    """The noise, level pair and keys of every sample (a batched `Draw`)."""
    x, condition = as_example(batch)
    level_key, noise_key, model_key = jr.split(key, 3)
    spread = stratified if stratify else independent
    pair = jax.vmap(lambda u: levels.draw(stage, u))(spread(len(x), key=level_key))
    z = draw_normal(x.shape, x.dtype, key=noise_key)
    z = z if coupling is None else check_answer("coupling", coupling(x, z), z)
    keys = jax.vmap(lambda key: Keys.from_key(key, share_dropout=share_dropout))(jr.split(model_key, len(x)))
    return jax.vmap(Draw)(x, z, pair, keys, condition, jnp.full(len(x), step))


Field: TypeAlias = Callable[[Array, Level], Array]
"""`(x_t, sigma) -> velocity`: the PF-ODE's right-hand side `dx_t / dsigma`, or an estimate of it."""

Origin: TypeAlias = Callable[[Any, Draw], Array]
Velocity: TypeAlias = Callable[[Any, Draw, TorsoPass], Field]
Stepper: TypeAlias = Callable[[Field, Array, LevelPair], Array]
Teacher: TypeAlias = Callable[..., Readout]
"""`(x_t, sigma, *, key=None) -> Readout`: a consistency model, or anything that can be called like one.

Where a draw has one, `condition` is an argument too.
"""

Bootstrap: TypeAlias = Callable[[Any], Teacher]


def checked_field(field: object) -> Field:
    """The field that a velocity gave, its answers held against the sample's shape.

    Raises:
        TypeError: if it is no function.
    """
    if not callable(field):
        raise TypeError(f"velocity: expected to return a function (x_t, sigma) -> velocity, found {show(field)}")
    found: Callable[..., Any] = field

    def checked(x_t: Sample, sigma: Level) -> Sample:
        return check_answer("velocity", found(x_t, sigma), x_t)

    return checked


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


# --- couplings ---


def optimal_transport(x: Float[Array, "batch *shape"], z: Float[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
    """The batch's noise, dealt out such that the sum of `|x - z|^2` is least (Pooladian et al. 2023; Hungarian method).

    Nearer pairs cross less: there is less left that `x_t` does not tell of its sample. The operations grow with
    batch^3: about 0.3 s for 512 samples on a CPU. Not for batches with conditions, whose classes it would mix up.
    """
    import optax  # noqa: PLC0415  (objectives do without it otherwise)

    product = jnp.matmul(x.reshape(len(x), -1), z.reshape(len(z), -1).T, precision="highest")
    rows, columns = optax.assignment.hungarian_algorithm(-product)
    return z[columns[jnp.argsort(rows)]]


# --- origins ---


class GeneratedOrigin(eqx.Module):
    """Generator-augmented flows (Issenhuth et al. 2025): a share of the clean samples is made by the model.

    Such a sample is `f(x + r z, r)`, and `x_t`, `x_r` are noised from it by the same `z`: noise and sample then belong
    together, so that less is left that `x_t` does not tell of its noise. The level is the pair's lower one and dropout
    is on, with bits of its own, as in the authors' released code. One more forward pass of the torso for every sample,
    chosen or not; no gradient.

    Only the one-sample velocity goes along with these pairs: a posterior mean over the data is not theirs.

    Args:
        share: of the batch, in [0, 1]: the probability that a sample is replaced. The paper's is 0.5.
        generator: `(model) -> cm`; by default the current weights, `teacher_weights` is a moving average of them.
    """

    share: float = 0.5
    generator: Bootstrap = same_weights

    def __check_init__(self) -> None:
        check_share("share", self.share)

    def __call__(self, model: PyTree, draw: Draw) -> Sample:
        chosen_key, dropout_key = jr.split(draw.keys.origin)
        x_r = perturb(draw.x, draw.z, draw.pair.r)
        made = self.generator(model)(x_r, draw.pair.r, key=dropout_key, **given(draw.condition)).endpoint
        return jnp.where(jr.uniform(chosen_key) < self.share, made, draw.x)


# --- steps ---


def straight_step(field: Field, x_t: Sample, pair: LevelPair) -> Sample:
    """An Euler step from `t` to `r`; with the one-sample velocity it ends at `x + r z`."""
    return euler_step(x_t, field(x_t, pair.t), pair.t, pair.r)


def heun_correction(field: Field, x_t: Sample, pair: LevelPair) -> Sample:
    """A Heun step from `t` to `r` (Karras et al. 2022, Algorithm 1): two evaluations, an error of order gap^3.

    To level 0, where no velocity is known, it is an Euler step, as theirs.
    """
    at_t = field(x_t, pair.t)
    ends = jnp.asarray(pair.r) == 0
    at_r = field(euler_step(x_t, at_t, pair.t, pair.r), jnp.where(ends, pair.t, pair.r))
    return euler_step(x_t, jnp.where(ends, at_t, (at_t + at_r) / 2), pair.t, pair.r)


class HeunSteps(eqx.Module):
    """`count` Heun steps from `t` to `r` instead of one, at levels evenly spaced in `sigma^(1 / rho)`.

    For velocities that are exact or cheap, such as the posterior mean over a data set: with a few of them the grid's
    own error is gone, so that it may be coarse: fewer levels to train, fewer bootstraps from data to noise.

    Args:
        count: of steps, >= 1, each of two evaluations.
        rho: curvature of the levels between.
    """

    count: int = eqx.field(static=True)
    rho: float = RHO

    def __check_init__(self) -> None:
        check_at_least("count", self.count, 1)
        check_positive("rho", self.rho)

    def __call__(self, field: Field, x_t: Sample, pair: LevelPair) -> Sample:
        top, bottom = (jnp.asarray(level) ** (1 / self.rho) for level in (pair.t, pair.r))
        between = [(top + i / self.count * (bottom - top)) ** self.rho for i in range(1, self.count)]
        for t, r in itertools.pairwise([pair.t, *between, pair.r]):
            x_t = heun_correction(field, x_t, LevelPair.from_levels(t, r))
        return x_t
