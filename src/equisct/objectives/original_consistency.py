"""Consistency training as first published (Song et al. 2023): a moving-average teacher, uniform levels, weight 1."""

from .._base.defaults import RHO, SIGMA_MAX, SIGMA_MIN
from ..curriculum import SquareRoot
from ..distance import AbstractDistance, SquaredL2
from ..level_sampling import LevelTable, Uniform
from ..weighting import ConstantWeighting
from .consistency import Consistency
from .slots import teacher_weights


def OriginalConsistencyTraining(
    *,
    curriculum: SquareRoot,
    distance: AbstractDistance | None = None,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    stratify: bool = False,
) -> Consistency:
    """CT (Song et al. 2023, Algorithm 3); train it with `Recipe(..., teacher_share=curriculum.teacher_share)`.

    Args:
        curriculum: its `N(k)` and the teacher's averaging rate `mu(k)`.
        distance: by default `SquaredL2`; the paper's results are with LPIPS, `Perceptual` over VGG features.
        sigma_min: lowest level.
        sigma_max: highest level.
        rho: curvature of the grid.
        stratify: spread the batch's level draws evenly over the grid.
    """
    return Consistency(
        curriculum=curriculum,
        levels=LevelTable.from_curriculum(curriculum, Uniform(), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho),
        distance=distance or SquaredL2(),
        weighting=ConstantWeighting(),
        bootstrap=teacher_weights,
        stratify=stratify,
    )
