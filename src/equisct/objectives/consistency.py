"""The template of every discrete consistency method, and improved consistency training (iCT) as its first member.

Draw a pair of levels t > r, take a small step from `x_t` to `x_r`, let a cut map judge `x_r`, measure the residual:
five slots are `levels`, `velocity`, `step`, `bootstrap`, and `distance` with `weighting`. A new method fills them anew.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.concrete import concrete
from .._base.types import Key, Sample, Scalar, Step
from ..curriculum import AbstractCurriculum
from ..diffusion import perturb
from ..distance import AbstractDistance, PseudoHuber
from ..level_sampling import AbstractLevelLaw, AbstractLevels, LevelTable, LogNormal
from ..losses import consistency_loss
from ..model import ConsistencyModel, Readout, consistency_part
from ..preconditioning import BoundaryPreconditioning
from ..weighting import AbstractWeighting, InverseGap
from .slots import Bootstrap, Draw, Stepper, Velocity, draw_pairs, one_sample_velocity, same_weights, straight_step
from .terms import AbstractSplitObjective, Parts, SampleLosses, Terms, collect_terms


class Consistency(AbstractSplitObjective):
    """The consistency objective with all five slots open; `(model, batch, step, *, key) -> (loss, Terms)`.

    Args:
        curriculum: step -> stage; how fine the grid is.
        levels: draws the level pairs of each stage, such as a `LevelTable`.
        distance: between student and teacher.
        weighting: of a level pair.
        velocity: `(model, draw) -> field`, where the small step's direction comes from.
        step: `(field, x_t, pair) -> x_r`, takes the small step.
        bootstrap: `(model) -> cm`, the map that judges the step's end; must be cut.
        stratify: spread the batch's level draws evenly over the law (same mean, less variance).
        share_dropout: student and teacher see the same dropout bits.
    """

    curriculum: AbstractCurriculum
    levels: AbstractLevels
    distance: AbstractDistance
    weighting: AbstractWeighting
    velocity: Velocity = one_sample_velocity
    step: Stepper = straight_step
    bootstrap: Bootstrap = same_weights
    stratify: bool = eqx.field(static=True, default=False)
    share_dropout: bool = eqx.field(static=True, default=True)

    def draw(self, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> Draw:
        """The noise, level pair and model key of every sample (a batched `Draw`)."""
        return draw_pairs(self.levels, self.curriculum.stage(step), batch, stratify=self.stratify, key=key)

    def check(self, model: PyTree) -> None:
        """Warns if the level at which the model's endpoint is x itself is not the grid's lowest."""
        cm, lowest = consistency_part(model), concrete(self.levels.sigma_min)
        form = cm.preconditioning if isinstance(cm, ConsistencyModel) else None
        if isinstance(form, BoundaryPreconditioning) and lowest is not None and not np.isclose(form.sigma_min, lowest):
            warnings.warn(
                f"sigma_min: expected one for the objective's grid and the model's preconditioning, found {lowest:g} "
                f"and {form.sigma_min:g}; the endpoint is x itself at the second alone",
                stacklevel=2,
            )

    def sample_loss(self, model: PyTree, draw: Draw) -> tuple[Scalar, Sample, Readout]:
        """One sample's loss, its noisy version `x_t`, and what the student read out there."""
        student_key, teacher_key = draw.key, draw.key if self.share_dropout else jr.split(draw.key)[0]
        x_t = perturb(draw.x, draw.z, draw.pair.t)
        x_r = self.step(self.velocity(model, draw), x_t, draw.pair)
        student = consistency_part(model)(x_t, draw.pair.t, key=student_key)
        teacher = self.bootstrap(model)(x_r, draw.pair.r, key=teacher_key)
        loss = consistency_loss(student.endpoint, teacher.endpoint, self.weighting(draw.pair), self.distance)
        return loss, x_t, student

    def sample_losses(self, model: PyTree, draws: Draw) -> SampleLosses:
        """The losses of a batch of draws, sample by sample."""
        losses, _, _ = jax.vmap(lambda draw: self.sample_loss(model, draw))(draws)
        t = jnp.asarray(draws.pair.t)
        return SampleLosses(consistency=losses, denoising=jnp.zeros_like(losses), t=t, head_t=t)

    def reduce(self, losses: SampleLosses) -> tuple[Parts, Terms]:
        """The loss in its parts (here one), and the terms."""
        terms = collect_terms(losses, self.levels.sigma_min, self.levels.sigma_max)
        return Parts(consistency=terms.consistency, denoising=terms.denoising), terms


def ConsistencyTraining(
    *,
    curriculum: AbstractCurriculum,
    distance: AbstractDistance | None = None,
    law: AbstractLevelLaw | None = None,
    weighting: AbstractWeighting | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    stratify: bool = False,
    share_dropout: bool = True,
) -> Consistency:
    """Improved consistency training (Song & Dhariwal 2024): one-sample velocity, same-weights teacher, 1 / gap.

    Args:
        curriculum: grid points per step, such as `Doubling(period=50_000)`.
        distance: by default `PseudoHuber(c=0.003)`, the paper's.
        law: of the level pairs; by default `LogNormal(mean=-1.1, std=2.0)`.
        weighting: by default `InverseGap()`.
        sigma_min: lowest level.
        sigma_max: highest level.
        rho: curvature of the grid.
        stratify: spread the batch's level draws evenly over the law.
        share_dropout: student and teacher see the same dropout bits.
    """
    levels = LevelTable.from_curriculum(
        curriculum, law or LogNormal(), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho
    )
    return Consistency(
        curriculum=curriculum,
        levels=levels,
        distance=distance or PseudoHuber(),
        weighting=weighting or InverseGap(),
        stratify=stratify,
        share_dropout=share_dropout,
    )
