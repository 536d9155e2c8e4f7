"""Score-guided consistency training (the paper's Algorithm 1): consistency + head_weight * denoising of the head."""

import math
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_at_least
from .._base.types import Key, Step
from ..curriculum import AbstractCurriculum
from ..diffusion import perturb
from ..distance import AbstractDistance
from ..level_sampling import AbstractLevelLaw, LogNormal
from ..losses import denoising_loss
from ..model import ScoreGuidedModel, student_of
from ..weighting import AbstractLevelWeighting, AbstractWeighting, EDMWeighting
from .consistency import Consistency, ConsistencyTraining
from .slots import Draw
from .terms import AbstractSplitObjective, Parts, SampleLosses, Terms, collect_terms

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
    """A consistency objective and the head's denoising on the same batch; `(model, batch, step, *, key)`.

    `model` is a `ScoreGuidedModel`, or a `Taught` one where the consistency objective's bootstrap wants a teacher.

    Head and student share `x_t` and its level, so the torso runs once for both (and once for the teacher). With
    `head_law` the head has a level of its own per sample, from the continuous log-normal law, at the cost of one more
    pass of the torso.

    Args:
        consistency: the consistency objective.
        head_weight: lambda_SH, factor of the denoising loss, >= 0.
        head_weighting: of the head's level, inside the denoising loss.
        head_law: None (the student's level, as in the paper's Algorithm 1) or a law of the head's own: continuous, and
            not cut at the ends of the grid.
    """

    consistency: Consistency
    head_weight: float
    head_weighting: AbstractLevelWeighting
    head_law: LogNormal | None = None

    def __check_init__(self) -> None:
        check_at_least("head_weight", self.head_weight, 0)

    def draw(self, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> Draw:
        """The noise, level pair and model key of every sample (a batched `Draw`)."""
        _warn_of_imbalance(self.consistency.distance, self.head_weight, math.prod(batch.shape[1:]))
        return self.consistency.draw(batch, step, key=key)

    def check(self, model: PyTree) -> None:
        """As that of the consistency objective.

        Raises:
            TypeError: if the model has no head to train.
        """
        pair = student_of(model)
        if not isinstance(pair, ScoreGuidedModel):
            found = type(pair).__name__
            raise TypeError(f"model: expected a ScoreGuidedModel, whose head is trained too, found {found}")
        self.consistency.check(model)

    def _sample_loss(self, model: PyTree, draw: Draw) -> SampleLosses:
        """Both losses of one sample."""
        head_key, level_key, noise_key, torso_key = jr.split(jr.fold_in(draw.key, 1), 4)
        pair = student_of(model)
        loss, x_t, readout = self.consistency.sample_loss(model, draw)
        sigma = jnp.asarray(draw.pair.t)
        if self.head_law is not None:
            sigma = jnp.exp(self.head_law.mean + self.head_law.std * jr.normal(level_key))
            x_t = perturb(draw.x, jr.normal(noise_key, draw.x.shape), sigma)
            readout = pair.cm(x_t, sigma, key=torso_key)
        denoised = pair.head(x_t, sigma, readout, key=head_key)
        denoising = denoising_loss(denoised, draw.x, self.head_weighting.at(sigma))
        return SampleLosses(consistency=loss, denoising=denoising, t=jnp.asarray(draw.pair.t), head_t=sigma)

    def sample_losses(self, model: PyTree, draws: Draw) -> SampleLosses:
        """Both losses of a batch of draws, sample by sample, the denoising before the head's weight."""
        self.check(model)
        return jax.vmap(lambda draw: self._sample_loss(model, draw))(draws)

    def reduce(self, losses: SampleLosses) -> tuple[Parts, Terms]:
        """The loss as consistency and weighted denoising, and the terms."""
        levels = self.consistency.levels
        terms = collect_terms(losses, levels.sigma_min, levels.sigma_max)
        return Parts(consistency=terms.consistency, denoising=self.head_weight * terms.denoising), terms


def ScoreGuidedTraining(
    *,
    curriculum: AbstractCurriculum,
    distance: AbstractDistance | None = None,
    head_weight: float = 0.3,
    head_weighting: AbstractLevelWeighting | None = None,
    head_law: LogNormal | None = None,
    law: AbstractLevelLaw | None = None,
    weighting: AbstractWeighting | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    stratify: bool = False,
    share_dropout: bool = True,
) -> ScoreGuided:
    """The paper's objective: iCT + head_weight * denoising of the head (eq. 10, Algorithm 1, Appendix B).

    The authors' released code multiplies the printed 0.3 by the EDM weight, `head_weighting=EDMWeighting()`, the
    default here; the paper's text alone reads as `ConstantWeighting()`. Warns when distance and head weight are far
    out of the paper's balance. The other arguments are those of `ConsistencyTraining`.
    """
    consistency = ConsistencyTraining(
        curriculum=curriculum, distance=distance, law=law, weighting=weighting, sigma_min=sigma_min,
        sigma_max=sigma_max, rho=rho, stratify=stratify, share_dropout=share_dropout,
    )  # fmt: skip
    return ScoreGuided(consistency, head_weight, head_weighting or EDMWeighting(), head_law)
