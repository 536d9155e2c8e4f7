"""Denoising score matching: a diffusion model alone, as EDM and as DDPM train it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.check import check_levels
from .._base.random import draw_normal
from .._base.types import Key, Level, Sample, Scalar, Step
from ..augmentation import Augmentation
from ..diffusion import perturb
from ..level_sampling import AbstractSingleLevel, LogNormal, VPTimes, independent, stratified
from ..losses import denoising_loss
from ..variance_preserving import VPSchedule
from ..weighting import AbstractLevelWeighting, EDMWeighting, NoiseWeighting
from .terms import AbstractSplitObjective, Parts, SampleLosses, Terms, collect_terms


class NoisedSample(eqx.Module):
    """Everything random and given about one sample of a denoising step."""

    x: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    sigma: Level
    key: Key
    labels: Float[Array, " labels"] | None = None
    """What an augmentation has done to x."""


class Denoising(AbstractSplitObjective):
    """Weighted squared error of a denoiser; `(model, batch, step, *, key) -> (loss, Terms)`.

    The model is a callable `(x_t, sigma, *, key=None) -> denoised`, such as a `DenoisingModel`.

    Args:
        law: of the level.
        weighting: of the level.
        stratify: spread the batch's level draws evenly over the law.
        sigma_min: lower end of the bins of the reported loss per level; bounds no level.
        sigma_max: their upper end.
        augment: of the images; the model then takes its `labels` too, as `DenoisingModel` does.
    """

    law: AbstractSingleLevel
    weighting: AbstractLevelWeighting
    stratify: bool = eqx.field(static=True, default=False)
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    augment: Augmentation | None = None

    def __check_init__(self) -> None:
        check_levels(self.sigma_min, self.sigma_max)

    def draw(self, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> NoisedSample:
        """The noise, level and model key of every sample (a batched `NoisedSample`)."""
        del step
        level_key, noise_key, model_key = jr.split(key, 3)
        spread = stratified if self.stratify else independent
        sigma = jax.vmap(self.law.level)(spread(len(batch), key=level_key))
        z = draw_normal(batch.shape, key=noise_key).astype(batch.dtype)
        labels = None
        if self.augment is not None:
            augment, keys = self.augment, jr.split(jr.fold_in(key, 3), len(batch))
            batch, labels = jax.vmap(lambda x, key: augment(x, key=key))(batch, keys)
        return jax.vmap(NoisedSample)(batch, z, sigma, jr.split(model_key, len(batch)), labels)

    def sample_losses(self, model: PyTree, draws: NoisedSample) -> SampleLosses:
        """The losses of a batch of draws, sample by sample."""

        def loss(draw: NoisedSample) -> Scalar:
            told = {} if draw.labels is None else {"labels": draw.labels}
            denoised: Sample = model(perturb(draw.x, draw.z, draw.sigma), draw.sigma, key=draw.key, **told)
            return denoising_loss(denoised, draw.x, self.weighting.at(draw.sigma))

        losses, sigma = jax.vmap(loss)(draws), jnp.asarray(draws.sigma)
        return SampleLosses(consistency=jnp.zeros_like(losses), denoising=losses, t=sigma, head_t=sigma)

    def reduce(self, losses: SampleLosses) -> tuple[Parts, Terms]:
        """The loss in its parts (here one), and the terms."""
        terms = collect_terms(losses, self.sigma_min, self.sigma_max)
        return Parts(consistency=terms.consistency, denoising=terms.denoising), terms


def EDMTraining(
    *,
    sigma_data: float = 0.5,
    law: LogNormal | None = None,
    stratify: bool = False,
    augment: Augmentation | None = None,
) -> Denoising:
    """EDM's objective (Karras et al. 2022, eq. 8): log-normal levels, the weight 1 / c_out^2.

    Args:
        sigma_data: standard deviation of the data, > 0.
        law: of the level; by default `LogNormal(-1.2, 1.2)`.
        stratify: spread the batch's level draws evenly over the law.
        augment: of the images; by default none.
    """
    return Denoising(law or LogNormal(-1.2, 1.2), EDMWeighting(sigma_data), stratify, augment=augment)


def DDPMTraining(*, schedule: VPSchedule | None = None, stratify: bool = False) -> Denoising:
    """DDPM's simple objective (Ho et al. 2020, eq. 14): every time alike, the squared error of the noise.

    In sigma's clock the error of the noise is that of the denoised estimate divided by sigma. The model wants
    `VPPreconditioning` of the same schedule.

    Args:
        schedule: by default DDPM's 1000 times.
        stratify: spread the batch's level draws evenly over the times.
    """
    schedule = schedule or VPSchedule()
    low, high = (float(schedule.sigmas[i]) for i in (0, -1))
    return Denoising(VPTimes(schedule), NoiseWeighting(), stratify, low, high)
