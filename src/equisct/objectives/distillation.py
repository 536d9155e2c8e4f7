"""Consistency distillation (Song et al. 2023): the small step follows a denoiser instead of one noisy sample."""

from .._base.defaults import RHO, SIGMA_MAX, SIGMA_MIN
from .._base.types import Denoiser
from ..curriculum import AbstractCurriculum, Constant
from ..distance import AbstractDistance, SquaredL2
from ..level_sampling import AbstractLevelLaw, LevelTable, Uniform
from ..weighting import AbstractWeighting, ConstantWeighting
from .consistency import Consistency
from .slots import Bootstrap, Stepper, heun_correction, same_weights
from .velocity import DenoiserVelocity, head_velocity


def ConsistencyDistillation(
    *,
    denoise: Denoiser | None,
    curriculum: AbstractCurriculum | None = None,
    distance: AbstractDistance | None = None,
    law: AbstractLevelLaw | None = None,
    weighting: AbstractWeighting | None = None,
    step: Stepper = heun_correction,
    bootstrap: Bootstrap = same_weights,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    stratify: bool = False,
) -> Consistency:
    """CD (Song et al. 2023, Algorithm 2): one Heun step of a denoiser from `t` to `r` between 18 levels.

    Args:
        denoise: posterior mean of one sample: a trained model's `denoise`, an oracle's, a function of yours; it is not
            trained. None: the model's own score head, so put the objective inside `ScoreGuided`.
        curriculum: by default `Constant(18)`.
        distance: by default `SquaredL2`; the paper's results are with LPIPS, `Perceptual` over VGG features.
        law: of the level pairs; by default `Uniform`.
        weighting: by default 1.
        step: takes the small step; `straight_step` is Euler's.
        bootstrap: by default the current weights, cut; `teacher_weights` is a moving average of them.
        sigma_min: lowest level.
        sigma_max: highest level.
        rho: curvature of the grid.
        stratify: spread the batch's level draws evenly over the law.
    """
    curriculum = curriculum or Constant(18)
    levels = LevelTable.from_curriculum(curriculum, law or Uniform(), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    return Consistency(
        curriculum=curriculum,
        levels=levels,
        distance=distance or SquaredL2(),
        weighting=weighting or ConstantWeighting(),
        velocity=head_velocity if denoise is None else DenoiserVelocity(denoise),
        step=step,
        bootstrap=bootstrap,
        stratify=stratify,
    )
