"""Improved consistency training."""

import dataclasses

from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling


@dataclasses.dataclass(frozen=True)
class ICT(AbstractDoubling):
    """Improved consistency training, a consistency model alone (Song & Dhariwal 2024)."""

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        """See `Method`."""
        from ...level_sampling import LogNormal
        from ...objectives.consistency import ConsistencyTraining
        from ..parts.models import consistency_model
        from ..parts.sampling import jumps

        curriculum = self.build_curriculum(config)
        return System(
            model=lambda key: consistency_model(config, shape, key=key),
            objective=lambda teacher: ConsistencyTraining(
                curriculum=curriculum,
                distance=self.build_distance(shape),
                law=LogNormal(mean=self.law_mean, std=self.law_std),
                stratify=self.stratify,
                **config.noise.grid,
            ),
            samplers=lambda step: jumps(config),
            curriculum=curriculum,
        )
