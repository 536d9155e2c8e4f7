"""Score-guided consistency training (the paper's Algorithm 1): consistency + head_weight * denoising of the head."""

import math
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

from .._base.batch import as_example, given
from .._base.check import check_at_least
from .._base.defaults import HEAD_WEIGHT, RHO, SIGMA_MAX, SIGMA_MIN
from .._base.random import draw_normal
from .._base.types import Denoiser, Examples, Key, Step
from ..curriculum import AbstractCurriculum
from ..diffusion import perturb
from ..distance import AbstractDistance
from ..level_sampling import AbstractLevelLaw, AbstractSingleLevel
from ..losses import denoising_loss
from ..model import ScoreGuidedModel, student_of
from ..weighting import AbstractLevelWeighting, AbstractWeighting, EDMWeighting
from .border import warn_of_scale
from .consistency import Consistency, ConsistencyTraining
from .denoising import clean_target
from .readout import AbstractReadoutObjective
from .slots import Coupling, Origin, Stepper, Velocity, straight_step
from .terms import AbstractSplitObjective, Part, SampleLoss, Terms, collect_terms
from .velocity import one_sample_velocity, reads_head

IMBALANCE = 10.0
"""Factor between a head weight and the balanced one above which the objective warns."""


def _warn_of_imbalance(distance: AbstractDistance, head_weight: float, size: int) -> None:
    balanced = distance.balanced_head_weight(size)
    if balanced is None or head_weight == 0 or abs(math.log(head_weight / balanced)) < math.log(IMBALANCE):
        return
    warnings.warn(
        f"head_weight: with {type(distance).__name__} on {size} elements the paper's balance between consistency and "
        f"denoising needs about {balanced:.3g}, found {head_weight:g}",
        stacklevel=2,
    )


class ScoreGuided(AbstractSplitObjective):
    """An objective and a score head's denoising on the same batch; `(model, batch, step, *, key)`.

    `model` is a `ScoreGuidedModel`, or a `WithTeacher` where the objective's bootstrap wants a teacher.

    Head and student share `x_t` and its level, so the torso runs once for both (and once for the teacher). With
    `head_law` the head has a level of its own per sample, at the cost of one more pass of the torso.

    Args:
        base: an objective that shows a pass of the torso, such as a `Consistency`.
        head_weight: lambda_SH, factor of the denoising loss, >= 0.
        head_weighting: of the head's level, inside the denoising loss.
        head_law: None (the student's level, as in the paper's Algorithm 1) or a law of the head's own, which the ends
            of the grid do not bound.
        target: what the head learns at `x_t`; by default the clean sample. A denoiser, such as the training set's
            posterior mean, `oracle.Empirical(points).denoise`, has the same optimum without the noise.

    Raises:
        ValueError: for a head that nothing trains as the velocity of the small step; for an `origin` that is not the
            data, where head and student share `x_t` and the head learns the clean sample.
    """

    base: AbstractReadoutObjective
    head_weight: float
    head_weighting: AbstractLevelWeighting
    head_law: AbstractSingleLevel | None = None
    target: Denoiser | None = None

    def __check_init__(self) -> None:
        check_at_least("head_weight", self.head_weight, 0)
        if not isinstance(self.base, Consistency):
            return
        if self.head_weight == 0 and reads_head(self.base.velocity):
            raise ValueError("head_weight: expected > 0 with the head's velocity, or nothing trains it, found 0")
        if self.base.origin is not None and self.head_law is None and self.target is None:
            expected = "none beside a score head that learns the sample behind the student's x_t"
            raise ValueError(f"origin: expected {expected}, found one; give the head a head_law or a target")

    def draw(self, batch: Examples, step: Step, *, key: Key) -> PyTree:
        """As the base objective draws."""
        if isinstance(self.base, Consistency):
            _warn_of_imbalance(self.base.distance, self.head_weight, math.prod(as_example(batch).x.shape[1:]))
        return self.base.draw(batch, step, key=key)

    def check(self, model: PyTree) -> None:
        """As the base objective does.

        Raises:
            TypeError: if the model has no head to train.
        """
        pair = student_of(model)
        if not isinstance(pair, ScoreGuidedModel):
            found = type(pair).__name__
            raise TypeError(f"model: expected a ScoreGuidedModel, whose head is trained too, found {found}")
        self.base.check(model)
        warn_of_scale(self.target, pair.cm)

    def _sample_loss(self, model: PyTree, draw: PyTree) -> dict[str, SampleLoss]:
        pair = student_of(model)
        losses, seen = self.base.sample_loss(model, draw)
        if "denoising" in losses:
            raise ValueError("base: expected an objective without a part named denoising, found one that has it")
        x_t, sigma, readout = seen.x_t, jnp.asarray(seen.sigma), seen.readout
        head_key, level_key, noise_key, torso_key = jr.split(seen.key, 4)
        if self.head_law is not None:
            sigma = self.head_law.level(jr.uniform(level_key, (), jnp.float32))
            x_t = perturb(seen.x, draw_normal(seen.x.shape, seen.x.dtype, key=noise_key), sigma)
            readout = pair.cm(x_t, sigma, key=torso_key, **given(seen.condition))
        denoised = pair.head(x_t, sigma, readout, key=head_key)
        target = clean_target(self.target, seen.x, x_t, sigma, seen.condition)
        loss = denoising_loss(denoised, target, self.head_weighting.at(sigma))
        return losses | {"denoising": SampleLoss(loss, sigma)}

    def sample_losses(self, model: PyTree, draws: PyTree) -> dict[str, SampleLoss]:
        """The base objective's losses of a batch of draws, and the head's, `denoising`, before its weight."""
        self.check(model)
        return jax.vmap(lambda draw: self._sample_loss(model, draw))(draws)

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The base objective's terms, and the head's loss as one more part, per level in the base's first bins."""
        terms = self.base.reduce({name: loss for name, loss in losses.items() if name != "denoising"})
        first = next(iter(terms.per_level.values()), None)
        own = collect_terms({"denoising": losses["denoising"]}, None if first is None else first.edges)
        parts = terms.parts | {"denoising": Part(own["denoising"], self.head_weight)}
        return Terms(parts, terms.per_level | own.per_level)


def ScoreGuidedTraining(
    *,
    curriculum: AbstractCurriculum,
    distance: AbstractDistance | None = None,
    head_weight: float = HEAD_WEIGHT,
    head_weighting: AbstractLevelWeighting | None = None,
    head_law: AbstractSingleLevel | None = None,
    target: Denoiser | None = None,
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
) -> ScoreGuided:
    """The paper's objective: iCT + head_weight * denoising of the head (eq. 10, Algorithm 1, Appendix B).

    The authors' released code multiplies the printed 0.3 by the EDM weight, `head_weighting=EDMWeighting()`, the
    default here; the paper's text alone reads as `ConstantWeighting()`. Warns when distance and head weight are far
    out of the paper's balance. The other arguments are those of `ConsistencyTraining`.
    """
    consistency = ConsistencyTraining(
        curriculum=curriculum, distance=distance, law=law, weighting=weighting, velocity=velocity, step=step,
        coupling=coupling, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho, stratify=stratify,
        share_dropout=share_dropout, origin=origin,
    )  # fmt: skip
    return ScoreGuided(consistency, head_weight, head_weighting or EDMWeighting(), head_law, target)
