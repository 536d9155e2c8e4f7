"""DDPM, a diffusion model; DDIM draws from the same weights."""

import dataclasses

from ..settings.config import Config
from ..settings.method import Method, System


@dataclasses.dataclass(frozen=True)
class DDPM(Method):
    """DDPM: a network that predicts the noise, a thousand times alike (Ho et al. 2020); DDIM samples from it too."""

    stratify: bool = False
    """Spread each batch's times evenly."""

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...objectives.denoising import DDPMTraining
        from ...samplers import DDIM, Ancestral
        from ..parts.models import denoising_model

        objective = DDPMTraining(stratify=self.stratify)
        return System(
            model=lambda key: denoising_model(config, shape, "vp", key=key),
            objective=lambda teacher, dataset: objective,
            samplers=lambda step: (DDIM(),),
            last_samplers=(Ancestral(clip=1.0 if len(shape) == 3 else None),),
        )
