"""Knowledge distillation (Luhman & Luhman 2021): regress the samples that a teacher's sampler made from known noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_positive
from .._base.types import Key, Scalar, Step
from ..distance import L1, AbstractDistance
from .terms import AbstractSplitObjective, Parts, SampleLosses, Terms, collect_terms


class NoisePair(eqx.Module):
    """One stored pair, `z` and the sample the teacher made of it, and the student's key."""

    z: Float[Array, "*shape"]
    x: Float[Array, "*shape"]
    key: Key


class KnowledgeDistillation(AbstractSplitObjective):
    """The distance of the student's one step from the teacher's many; `(model, batch, step, *, key)`.

    The model is a callable `(x_t, sigma, *, key=None) -> sample`, such as the teacher's `DenoisingModel`. A batch holds
    pairs, `(batch, 2, *shape)`: unit Gaussian noise first, then the teacher's sample.

    Args:
        sigma_max: level at which the student sees the noise, `student(sigma_max z, sigma_max)`; > 0.
        distance: between the two samples; by default L1, the paper's.
    """

    sigma_max: float = 80.0
    distance: AbstractDistance = L1()

    def __check_init__(self) -> None:
        check_positive("sigma_max", self.sigma_max)

    def draw(self, batch: Float[Array, "batch *pair"], step: Step, *, key: Key) -> NoisePair:
        """The pairs of the batch (a batched `NoisePair`).

        Raises:
            ValueError: if the batch does not hold pairs.
        """
        del step
        if batch.ndim < 3 or batch.shape[1] != 2:
            raise ValueError(f"batch: expected pairs of noise and sample, (batch, 2, *shape), found {batch.shape}")
        return jax.vmap(NoisePair)(batch[:, 0], batch[:, 1], jr.split(key, len(batch)))

    def sample_losses(self, model: PyTree, draws: NoisePair) -> SampleLosses:
        """The losses of a batch of pairs, pair by pair."""

        def loss(pair: NoisePair) -> Scalar:
            return self.distance(model(self.sigma_max * pair.z, self.sigma_max, key=pair.key), pair.x)

        losses = jax.vmap(loss)(draws)
        t = jnp.full_like(losses, self.sigma_max)
        return SampleLosses(consistency=losses, denoising=jnp.zeros_like(losses), t=t, head_t=t)

    def reduce(self, losses: SampleLosses) -> tuple[Parts, Terms]:
        """The loss in its parts (here one), and the terms, all in the highest bin."""
        terms = collect_terms(losses, self.sigma_max / 2, self.sigma_max)
        return Parts(consistency=terms.consistency, denoising=terms.denoising), terms
