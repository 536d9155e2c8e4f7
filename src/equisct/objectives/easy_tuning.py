"""Easy consistency tuning (ECT, Geng et al. 2024): from denoising to consistency by a gap that shrinks in stages."""

from .._base.defaults import ECT_NARROWING, ECT_WIDENING, SIGMA_MAX, SIGMA_MIN
from ..curriculum import AbstractCurriculum
from ..distance import AbstractDistance, PseudoHuberNorm
from ..level_sampling import LogNormal, ShrinkingPairs
from ..weighting import AbstractWeighting, InverseGap
from .consistency import Consistency
from .slots import Coupling, Origin, Stepper, Velocity, straight_step
from .velocity import one_sample_velocity


def EasyConsistencyTuning(
    *,
    curriculum: AbstractCurriculum,
    distance: AbstractDistance | None = None,
    law: LogNormal | None = None,
    weighting: AbstractWeighting | None = None,
    k: float = ECT_WIDENING,
    b: float = ECT_NARROWING,
    velocity: Velocity = one_sample_velocity,
    step: Stepper = straight_step,
    coupling: Coupling | None = None,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    stratify: bool = False,
    origin: Origin | None = None,
) -> Consistency:
    """ECT: continuous levels, a relative gap of `(1 + k sigmoid(-b t)) / intervals`, weight 1 / gap.

    Start from a pretrained denoiser of EDM's form: `ConsistencyModel(denoiser.network, BoundaryPreconditioning(...))`
    has its weights. This differs from the authors' code near `sigma_min` alone:

    * They let `r` reach 0 and take the clean sample there; here it stops at `sigma_min`, where the consistency function
      is the identity, which differs by `sigma_min z`. Their `t` may lie below `sigma_min`, this one not.
    * They train in EDM's form and sample in the boundary form, with a `sigma_min` of 0.003; here training has the
      boundary form too, with the model's own `sigma_min`.
    * The gap is shorter than theirs and 1 / gap larger: in the first stage by `t / (t - sigma_min)`, which is more than
      2 in 0.8 % of the draws and more than 77 in one of 10,000. The boundary form makes the residual smaller by as
      much, so the weighted loss is theirs.

    Their later code, for larger images, weighs by `1 / t^2 + 1 / sigma_data^2` instead.

    Args:
        curriculum: the intervals of each stage; the paper's q^(stage + 1) is `Doubling(first=2, last=256, ...)`.
        distance: by default `PseudoHuberNorm(c_per_root_dim=1e-8)`: the plain norm, the paper's c = 0.
        law: of `t`; by default `LogNormal(-1.1, 2.0)`.
        weighting: by default `InverseGap()`.
        k: widening of the gap at low levels.
        b: how fast it narrows with the level.
        velocity: where the small step's direction comes from.
        step: takes the small step; `heun_correction` is Heun's.
        coupling: which noise goes with which sample, such as `optimal_transport`; by default as drawn.
        sigma_min: lowest level.
        sigma_max: highest level.
        stratify: spread the batch's level draws evenly over the law.
        origin: the clean sample that the noise is added to, such as `GeneratedOrigin()`; by default the batch's own.
    """
    return Consistency(
        curriculum=curriculum,
        levels=ShrinkingPairs(curriculum, law or LogNormal(), k, b, sigma_min, sigma_max),
        distance=distance or PseudoHuberNorm(c_per_root_dim=1e-8),
        weighting=weighting or InverseGap(),
        velocity=velocity,
        step=step,
        coupling=coupling,
        stratify=stratify,
        origin=origin,
    )
