"""Knowledge distillation (Luhman & Luhman 2021): regress the samples that a teacher's sampler made from known noise."""

import equinox as eqx
import jax
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import Pair
from .._base.check import check_positive
from .._base.defaults import SIGMA_MAX
from .._base.types import Key, Scalar, Step
from ..distance import L1, AbstractDistance
from ..model import DenoisingModel
from ..preconditioning import warn_if_loud
from .terms import AbstractSplitObjective, SampleLoss, Terms, collect_terms


class NoisePair(eqx.Module):
    """One stored pair, `z` and the sample the teacher made of it, and the student's key."""

    z: Float[Array, "*shape"]
    x: Float[Array, "*shape"]
    key: Key


class KnowledgeDistillation(AbstractSplitObjective):
    """The distance of the student's one step from the teacher's many; `(model, batch, step, *, key)`.

    The model is a callable `(x_t, sigma, *, key=None) -> sample`, such as a `DenoisingModel` of the teacher's network
    with `EDMPreconditioning`; where the teacher is a DDPM, with `VPStudentPreconditioning` at its last level, as the
    authors do it. A batch is a `Pair` of unit Gaussian noise and the teacher's samples, each `(batch, *shape)`.

    Args:
        sigma_max: level at which the student sees the noise, `student(sigma_max z, sigma_max)`; > 0.
        distance: between the two samples; by default L1, the paper's.
    """

    sigma_max: float = SIGMA_MAX
    distance: AbstractDistance = L1()

    def __check_init__(self) -> None:
        check_positive("sigma_max", self.sigma_max)

    def check(self, model: PyTree) -> None:
        """Warns of a student that multiplies its network's error, as a DDPM's own form does."""
        if isinstance(model, DenoisingModel):
            warn_if_loud(model.preconditioning, self.sigma_max, "take VPStudentPreconditioning for a DDPM's student")

    def draw(self, batch: Pair, step: Step, *, key: Key) -> NoisePair:
        """The pairs of the batch (a batched `NoisePair`)."""
        del step
        return jax.vmap(NoisePair)(*batch, jr.split(key, len(batch.x)))

    def sample_losses(self, model: PyTree, draws: NoisePair) -> dict[str, SampleLoss]:
        """The losses of a batch of pairs, pair by pair."""

        def loss(pair: NoisePair) -> Scalar:
            return self.distance(model(self.sigma_max * pair.z, self.sigma_max, key=pair.key), pair.x)

        return {"consistency": SampleLoss(jax.vmap(loss)(draws))}

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The loss in its parts (here one); with one level, there is nothing per level."""
        return collect_terms(losses)
