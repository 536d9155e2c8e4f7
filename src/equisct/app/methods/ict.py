"""Improved consistency training."""

import dataclasses

from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling, Source


@dataclasses.dataclass(frozen=True)
class ICT(AbstractDoubling):
    """Improved consistency training, a consistency model alone (Song & Dhariwal 2024)."""

    velocity: Source = "sample"
    """Direction of the small step: the noise of this one sample (as published), or its exact mean given x_t, the
    posterior mean over the training set (held in memory)."""

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...objectives.consistency import ConsistencyTraining
        from ..parts.models import consistency_model

        own = lambda law: {"rho": config.noise.rho}
        return self.build_system(config, shape, consistency_model, ConsistencyTraining, own)
