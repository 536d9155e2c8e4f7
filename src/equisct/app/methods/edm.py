"""EDM, a diffusion model."""

import dataclasses

from ..._base.check import check_fraction, check_positive
from ..._base.defaults import EDM_LAW_MEAN, EDM_LAW_STD
from ..settings.config import Config
from ..settings.method import Method, System
from .consistency import Source


@dataclasses.dataclass(frozen=True)
class EDM(Method):
    """EDM: a denoiser alone, log-normal levels, EDM's weighting (Karras et al. 2022)."""

    law_mean: float = EDM_LAW_MEAN
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = EDM_LAW_STD
    """Standard deviation of ln sigma in the law of the noise level."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""

    target: Source = "sample"
    """What the denoiser learns at x_t: the clean sample (as published), or the posterior mean over the training set."""
    augment: float = 0.0
    """Probability of each geometric augmentation of images, told to the network by labels, in [0, 1) (EDM: 0.12, and no
    data.flip: flips are among them)."""

    def check(self, config: Config) -> None:
        check_positive("method.law_std", self.law_std)
        check_fraction("method.augment", self.augment)
        if self.augment and getattr(config.data, "flip", False):
            raise ValueError("data.flip: expected it off with method.augment, which flips by itself, found it on")
        if self.augment and self.target != "sample":
            raise ValueError(
                f"method.target: expected sample with method.augment, of which the posterior does not know, "
                f"found {self.target}"
            )

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...augmentation import AUGMENT_LABELS, Augmentation
        from ...level_sampling import LogNormal
        from ...objectives.denoising import EDMTraining
        from ..parts.models import denoising_model
        from ..parts.posterior import training_posterior
        from ..parts.sampling import heun

        if self.augment and len(shape) != 3:
            raise ValueError(f"method.augment: expected 0 with vectors, found {self.augment:g}")
        noise, labels = config.noise, AUGMENT_LABELS if self.augment else 0
        objective = lambda teacher, dataset: EDMTraining(
            sigma_data=noise.sigma_data,
            law=LogNormal(mean=self.law_mean, std=self.law_std),
            stratify=self.stratify,
            augment=Augmentation(self.augment) if self.augment else None,
            target=training_posterior(config, dataset).denoise if self.target == "posterior" else None,
            sigma_min=noise.sigma_min,
            sigma_max=noise.sigma_max,
        )
        return System(
            model=lambda key: denoising_model(config, shape, "edm", augment_labels=labels, key=key),
            objective=objective,
            samplers=lambda step: (heun(config.sample.heun_steps, noise),),
        )
