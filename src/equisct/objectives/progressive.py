"""Progressive distillation (Salimans & Ho 2022): a student learns two of its teacher's steps as one, then teaches."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._base.batch import given
from .._base.defaults import RHO, SIGMA_MAX, SIGMA_MIN
from .._base.tree import cut
from .._base.types import Denoiser, Examples, Key, Sample, Scalar, Step
from ..curriculum import Halving
from ..diffusion import euler_step, perturb, pf_drift
from ..discretization import LevelPair
from ..level_sampling import LevelTable, Uniform
from ..losses import denoising_loss
from ..model import DenoisingModel, WithTeacher, student_of
from ..preconditioning import warn_if_loud
from ..weighting import AbstractLevelWeighting, SNRWeighting
from .slots import Draw, draw_pairs
from .terms import AbstractSplitObjective, SampleLoss, Terms, bin_edges, collect_terms


def two_step_target(denoise: Denoiser, x_t: Sample, pair: LevelPair, rho: float) -> Sample:
    """The clean sample that a denoiser must give at `x_t` for one Euler step to `r` to end where two of `denoise` do.

    The two meet half-way in the grid's index, at `((t^(1/rho) + r^(1/rho)) / 2)^rho`.
    """
    t, r = jnp.asarray(pair.t), jnp.asarray(pair.r)
    middle = ((t ** (1 / rho) + r ** (1 / rho)) / 2) ** rho
    x_m = euler_step(x_t, pf_drift(denoise(x_t, t), x_t, t), t, middle)
    x_r = euler_step(x_m, pf_drift(denoise(x_m, middle), x_m, middle), middle, r)
    return x_t + t * (x_r - x_t) / pair.gap


class ProgressiveDistillation(AbstractSplitObjective):
    """The squared error of the student against its teacher's two steps; `(model, batch, step, *, key)`.

    The model is a `WithTeacher`, student and teacher of one architecture: train the student from the teacher's weights
    with `Recipe(..., teacher_share=curriculum.teacher_share)`. Sample an n-step student with `euler` on its n top
    levels, `karras_grid(n + 1)[:0:-1]`.

    Targets, levels and weight are those of the consistency models' authors, whose sampler stops at `sigma_min`. Here
    the last step goes on along the same line to level 0, to the student's denoised estimate: the samples differ by
    `sigma_min` times the noise that the student sees, a quarter of a grey level of 8 bits.

    Let the first teacher be of EDM's form. With `VPPreconditioning` the error of the network is multiplied by the level
    on its way into the sample, by 80 in the last stage; the method's authors give up predicting noise for that reason.

    Args:
        curriculum: the student's steps in each stage.
        levels: their grids, `LevelTable.from_curriculum(curriculum, Uniform())`.
        weighting: of the student's level.
        rho: curvature of the grids.
        stratify: spread the batch's level draws evenly over the grid.
    """

    curriculum: Halving
    levels: LevelTable
    weighting: AbstractLevelWeighting
    rho: float = RHO
    stratify: bool = eqx.field(static=True, default=False)

    @staticmethod
    def from_curriculum(
        curriculum: Halving,
        *,
        weighting: AbstractLevelWeighting | None = None,
        sigma_min: float = SIGMA_MIN,
        sigma_max: float = SIGMA_MAX,
        rho: float = RHO,
        stratify: bool = False,
    ) -> "ProgressiveDistillation":
        """The objective on Karras grids, by default with the paper's weight `max(1 / t^2, 1)`."""
        levels = LevelTable.from_curriculum(curriculum, Uniform(), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        return ProgressiveDistillation(curriculum, levels, weighting or SNRWeighting(), rho, stratify)

    def check(self, model: PyTree) -> None:
        """Warns of a student that multiplies its network's error, as a DDPM's form does in the last stage."""
        student, top = student_of(model), float(self.levels.grid[0, -1])
        if isinstance(student, DenoisingModel):
            warn_if_loud(student.preconditioning, top, "begin with a teacher of EDM's form")

    def draw(self, batch: Examples, step: Step, *, key: Key) -> Draw:
        """The noise, level pair and keys of every sample (a batched `Draw`)."""
        return draw_pairs(self.levels, self.curriculum.stage(step), batch, stratify=self.stratify, key=key)

    def sample_losses(self, model: WithTeacher, draws: Draw) -> dict[str, SampleLoss]:
        """The losses of a batch of draws, sample by sample."""

        def loss(draw: Draw) -> Scalar:
            x_t = perturb(draw.x, draw.z, draw.pair.t)
            told = given(draw.condition)
            teacher = functools.partial(cut(model.teacher), **told)
            target = cut(two_step_target(teacher, x_t, draw.pair, self.rho))
            student = model.student(x_t, draw.pair.t, key=draw.keys.student, **told)
            return denoising_loss(student, target, self.weighting(draw.pair))

        return {"denoising": SampleLoss(jax.vmap(loss)(draws), jnp.asarray(draws.pair.t))}

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The loss in its parts (here one)."""
        return collect_terms(losses, bin_edges(self.levels.sigma_min, self.levels.sigma_max))
