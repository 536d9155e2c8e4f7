"""Denoising score matching: a diffusion model alone, as EDM and as DDPM train it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.batch import as_example, given
from .._base.check import check_levels
from .._base.concrete import check_answer
from .._base.defaults import EDM_LAW_MEAN, EDM_LAW_STD, SIGMA_DATA, SIGMA_MAX, SIGMA_MIN
from .._base.explain import show
from .._base.random import draw_normal
from .._base.tree import cut
from .._base.types import Denoiser, Examples, Key, Level, Sample, Scalar, Step
from ..augmentation import Augmentation
from ..diffusion import perturb
from ..level_sampling import AbstractSingleLevel, LogNormal, VPTimes, independent, stratified
from ..losses import denoising_loss
from ..variance_preserving import VPSchedule
from ..weighting import AbstractLevelWeighting, EDMWeighting, NoiseWeighting
from .border import warn_of_scale
from .terms import AbstractSplitObjective, SampleLoss, Terms, bin_edges, collect_terms


class NoisedSample(eqx.Module):
    """Everything random and given about one sample of a denoising step."""

    x: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    sigma: Level
    key: Key
    augment_labels: Float[Array, " augment_labels"] | None = None
    """What an augmentation has done to x."""
    condition: PyTree = None


def clean_target(target: Denoiser | None, x: Sample, x_t: Sample, sigma: Level, condition: PyTree) -> Sample:
    """What a denoiser learns at `x_t`: the clean sample, or what another denoiser says there, cut."""
    return x if target is None else cut(check_answer("target", target(x_t, sigma, **given(condition)), x))


class Denoising(AbstractSplitObjective):
    """Weighted squared error of a denoiser; `(model, batch, step, *, key) -> (loss, Terms)`.

    The model is a callable `(x_t, sigma, *, key=None) -> denoised`, such as a `DenoisingModel`; it takes `condition`
    too if the batches have any.

    Args:
        law: of the level.
        weighting: of the level.
        stratify: spread the batch's level draws evenly over the law.
        sigma_min: lower end of the bins of the reported loss per level; bounds no level.
        sigma_max: their upper end.
        augment: of the images; the model then takes its `augment_labels` too, as `DenoisingModel` does.
        target: what the model learns at `x_t`; by default the clean sample. A denoiser, such as the training set's
            posterior mean, `oracle.Empirical(points).denoise`, has the same optimum without the noise.

    Raises:
        ValueError: for `target` with `augment`: it would have to know what was done to the sample.
    """

    law: AbstractSingleLevel
    weighting: AbstractLevelWeighting
    stratify: bool = eqx.field(static=True, default=False)
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX
    augment: Augmentation | None = None
    target: Denoiser | None = None

    def __check_init__(self) -> None:
        check_levels(self.sigma_min, self.sigma_max)
        if self.target is not None and self.augment is not None:
            raise ValueError("target: expected none with an augmentation, which it does not know of, found both")

    def check(self, model: PyTree) -> None:
        """Raises `TypeError` if the model is no callable.

        Warns of a target's data set that is far larger than the data that the model is for.
        """
        if not callable(model):
            expected = "a callable (x_t, sigma, *, key=None), such as a DenoisingModel"
            raise TypeError(f"model: expected {expected}, found {show(model)}")
        warn_of_scale(self.target, model)

    def draw(self, batch: Examples, step: Step, *, key: Key) -> NoisedSample:
        """The noise, level and model key of every sample (a batched `NoisedSample`)."""
        del step
        x, condition = as_example(batch)
        level_key, noise_key, model_key = jr.split(key, 3)
        spread = stratified if self.stratify else independent
        sigma = jax.vmap(self.law.level)(spread(len(x), key=level_key))
        z = draw_normal(x.shape, x.dtype, key=noise_key)
        augment_labels = None
        if self.augment is not None:
            augment, keys = self.augment, jr.split(jr.fold_in(key, 3), len(x))
            x, augment_labels = jax.vmap(lambda x, key: augment(x, key=key))(x, keys)
        return jax.vmap(NoisedSample)(x, z, sigma, jr.split(model_key, len(x)), augment_labels, condition)

    def sample_losses(self, model: PyTree, draws: NoisedSample) -> dict[str, SampleLoss]:
        """The losses of a batch of draws, sample by sample."""
        self.check(model)

        def loss(draw: NoisedSample) -> Scalar:
            told = given(draw.condition)
            if draw.augment_labels is not None:
                told["augment_labels"] = draw.augment_labels
            x_t = perturb(draw.x, draw.z, draw.sigma)
            denoised: Sample = model(x_t, draw.sigma, key=draw.key, **told)
            target = clean_target(self.target, draw.x, x_t, draw.sigma, draw.condition)
            return denoising_loss(denoised, target, self.weighting.at(draw.sigma))

        return {"denoising": SampleLoss(jax.vmap(loss)(draws), jnp.asarray(draws.sigma))}

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The loss in its parts (here one)."""
        return collect_terms(losses, bin_edges(self.sigma_min, self.sigma_max))


def EDMTraining(
    *,
    sigma_data: float = SIGMA_DATA,
    law: LogNormal | None = None,
    stratify: bool = False,
    augment: Augmentation | None = None,
    target: Denoiser | None = None,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
) -> Denoising:
    """EDM's objective (Karras et al. 2022, eq. 8): log-normal levels, the weight 1 / c_out^2.

    Args:
        sigma_data: standard deviation of the data, > 0.
        law: of the level; by default `LogNormal(-1.2, 1.2)`.
        stratify: spread the batch's level draws evenly over the law.
        augment: of the images; by default none.
        target: what the model learns at `x_t`; by default the clean sample.
        sigma_min: lower end of the bins of the reported loss per level; bounds no level.
        sigma_max: their upper end.
    """
    law = law or LogNormal(EDM_LAW_MEAN, EDM_LAW_STD)
    return Denoising(law, EDMWeighting(sigma_data), stratify, sigma_min, sigma_max, augment, target)


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
