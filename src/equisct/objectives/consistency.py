"""The template of every discrete consistency method, and improved consistency training (iCT) as its first member.

Draw a pair of levels t > r, take a small step from `x_t` to `x_r`, evaluate a teacher there, measure the residual: the
five slots are `levels`, `velocity`, `step`, `bootstrap`, and `distance` with `weighting`. A new method fills them anew.
"""

import dataclasses
import warnings
from typing import cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._base.batch import given
from .._base.concrete import check_answer, concrete
from .._base.defaults import RHO, SIGMA_MAX, SIGMA_MIN
from .._base.explain import show
from .._base.tree import cut
from .._base.types import Examples, Key, Level, Sample, Step
from ..curriculum import AbstractCurriculum
from ..diffusion import perturb
from ..distance import AbstractDistance, PseudoHuber
from ..level_sampling import AbstractLevelLaw, AbstractLevels, LevelTable, LogNormal
from ..losses import consistency_loss
from ..model import ConsistencyModel, Readout, consistency_part
from ..preconditioning import BoundaryPreconditioning
from ..weighting import AbstractWeighting, InverseGap
from .border import warn_of_scale
from .readout import AbstractReadoutObjective, TorsoPass
from .slots import (
    Bootstrap,
    Coupling,
    Draw,
    Field,
    Origin,
    Stepper,
    Velocity,
    draw_pairs,
    same_weights,
    straight_step,
)
from .terms import SampleLoss, Terms, bin_edges, collect_terms
from .velocity import one_sample_velocity


class Consistency(AbstractReadoutObjective):
    """The consistency objective with all five slots open; `(model, batch, step, *, key) -> (loss, Terms)`.

    Only the student has a gradient: the slots get the model cut, and the small step's end and the teacher's answer are
    cut too, whatever a slot has closed over.

    Args:
        curriculum: step -> stage; how fine the grid is.
        levels: draws the level pairs of each stage, such as a `LevelTable`.
        distance: between student and teacher.
        weighting: of a level pair.
        velocity: `(model, draw, student) -> field`, where the small step's direction comes from.
        step: `(field, x_t, pair) -> x_r`, takes the small step.
        bootstrap: `(model) -> cm`, the teacher, evaluated at the step's end.
        coupling: `(x, z) -> z`, which noise goes with which sample of a batch; by default as drawn, independent.
        stratify: spread the batch's level draws evenly over the law (same mean, less variance).
        share_dropout: student and teacher see the same dropout bits.
        origin: `(model, draw) -> x`, the clean sample that the noise is added to, such as a `GeneratedOrigin`; by
            default the batch's own.

    Raises:
        ValueError: while tracing, where the answer of a slot has not the sample's shape.
    """

    curriculum: AbstractCurriculum
    levels: AbstractLevels
    distance: AbstractDistance
    weighting: AbstractWeighting
    velocity: Velocity = one_sample_velocity
    step: Stepper = straight_step
    bootstrap: Bootstrap = same_weights
    coupling: Coupling | None = None
    stratify: bool = eqx.field(static=True, default=False)
    share_dropout: bool = eqx.field(static=True, default=True)
    origin: Origin | None = None

    def draw(self, batch: Examples, step: Step, *, key: Key) -> Draw:
        """The noise, level pair and keys of every sample (a batched `Draw`)."""
        options = {"stratify": self.stratify, "share_dropout": self.share_dropout, "coupling": self.coupling}
        return draw_pairs(self.levels, self.curriculum.stage(step), batch, **options, step=step, key=key)

    def check(self, model: PyTree) -> None:
        """Warns if the level at which the model's endpoint is x itself is not the grid's lowest.

        And if the velocity's data set is far larger than the data that the model is for.
        """
        warn_of_scale(self.velocity, consistency_part(model))
        cm, lowest = consistency_part(model), concrete(self.levels.sigma_min)
        form = cm.preconditioning if isinstance(cm, ConsistencyModel) else None
        if isinstance(form, BoundaryPreconditioning) and lowest is not None and not np.isclose(form.sigma_min, lowest):
            warnings.warn(
                f"sigma_min: expected one for the objective's grid and the model's preconditioning, found {lowest:g} "
                f"and {form.sigma_min:g}; the endpoint is x itself at the second alone",
                stacklevel=2,
            )

    def sample_loss(self, model: PyTree, draw: Draw) -> tuple[dict[str, SampleLoss], TorsoPass]:
        """One sample's loss, `consistency`, and the student's pass at `x_t`."""
        t, fixed, told, x = draw.pair.t, cut(model), given(draw.condition), draw.x
        if self.origin is not None:
            draw = dataclasses.replace(draw, x=cut(check_answer("origin", self.origin(fixed, draw), x)))
        x_t = perturb(draw.x, draw.z, t)
        student = consistency_part(model)(x_t, t, key=draw.keys.student, **told)
        if not isinstance(student, Readout):
            found = type(consistency_part(model)).__name__
            raise TypeError(f"model: expected a ConsistencyModel, or a callable that returns a Readout, found {found}")
        seen = TorsoPass(x, x_t, t, student, draw.keys.head, draw.condition)
        field = _checked(self.velocity(fixed, draw, dataclasses.replace(seen, readout=cut(student))))
        x_r = cut(check_answer("step", self.step(field, x_t, draw.pair), x_t))
        teacher = cut(self.bootstrap(fixed)(x_r, draw.pair.r, key=draw.keys.teacher, **told))
        loss = consistency_loss(student.endpoint, teacher.endpoint, self.weighting(draw.pair), self.distance)
        return {"consistency": SampleLoss(loss, jnp.asarray(t))}, seen

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The loss in its parts (here one)."""
        return collect_terms(losses, bin_edges(self.levels.sigma_min, self.levels.sigma_max))


def _checked(field: object) -> Field:
    """The field that a velocity gave, its answers held against the sample's shape."""
    if not callable(field):
        raise TypeError(f"velocity: expected to return a function (x_t, sigma) -> velocity, found {show(field)}")
    found = cast(Field, field)

    def checked(x_t: Sample, sigma: Level) -> Sample:
        return check_answer("velocity", found(x_t, sigma), x_t)

    return checked


def ConsistencyTraining(
    *,
    curriculum: AbstractCurriculum,
    distance: AbstractDistance | None = None,
    law: AbstractLevelLaw | None = None,
    weighting: AbstractWeighting | None = None,
    velocity: Velocity = one_sample_velocity,
    step: Stepper = straight_step,
    coupling: Coupling | None = None,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    stratify: bool = False,
    share_dropout: bool = True,
    origin: Origin | None = None,
) -> Consistency:
    """Improved consistency training (Song & Dhariwal 2024): one-sample velocity, same-weights teacher, 1 / gap.

    With `velocity=DenoiserVelocity(oracle.Empirical(points).denoise)` the noise of the velocity is gone: the training
    set `points` gives its mean exactly.

    Args:
        curriculum: grid points per step, such as `Doubling(period=50_000)`.
        distance: by default `PseudoHuber(c=0.003)`, the paper's.
        law: of the level pairs; by default `LogNormal(mean=-1.1, std=2.0)`.
        weighting: by default `InverseGap()`.
        velocity: where the small step's direction comes from.
        step: takes the small step; `heun_correction` is Heun's.
        coupling: which noise goes with which sample, such as `optimal_transport`; by default as drawn.
        sigma_min: lowest level.
        sigma_max: highest level.
        rho: curvature of the grid.
        stratify: spread the batch's level draws evenly over the law.
        share_dropout: student and teacher see the same dropout bits.
        origin: the clean sample that the noise is added to, such as `GeneratedOrigin()`; by default the batch's own.
    """
    levels = LevelTable.from_curriculum(
        curriculum, law or LogNormal(), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho
    )
    return Consistency(
        curriculum=curriculum,
        levels=levels,
        distance=distance or PseudoHuber(),
        weighting=weighting or InverseGap(),
        velocity=velocity,
        step=step,
        coupling=coupling,
        stratify=stratify,
        share_dropout=share_dropout,
        origin=origin,
    )
