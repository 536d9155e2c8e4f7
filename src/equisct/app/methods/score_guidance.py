"""Score-guided consistency training, the paper's method."""

import dataclasses

from ..._base.check import check_at_least
from ..._base.defaults import HEAD_WEIGHT
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling, HeadWeighting, head_weighting


@dataclasses.dataclass(frozen=True)
class ScoreGuidance(AbstractDoubling):
    """The paper's: improved consistency training plus the head's denoising."""

    head_weight: float = HEAD_WEIGHT
    """Factor of the denoising loss, >= 0."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of the denoising loss over noise levels: EDM's (the released code), or none (the paper's text)."""

    def check(self, config: Config) -> None:
        """See `Method`."""
        AbstractDoubling.check(self, config)
        check_at_least("method.head_weight", self.head_weight, 0)

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        """See `Method`."""
        from ...level_sampling import LogNormal
        from ...objectives.score_guided import ScoreGuidedTraining
        from ..parts.models import score_guided_model
        from ..parts.sampling import heun, jumps

        curriculum = self.build_curriculum(config)
        return System(
            model=lambda key: score_guided_model(config, shape, key=key),
            objective=lambda teacher: ScoreGuidedTraining(
                curriculum=curriculum,
                distance=self.build_distance(shape),
                head_weight=self.head_weight,
                head_weighting=head_weighting(self.head_weighting, config),
                law=LogNormal(mean=self.law_mean, std=self.law_std),
                stratify=self.stratify,
                **config.noise.grid,
            ),
            samplers=lambda step: jumps(config),
            curriculum=curriculum,
            last_samplers=(heun(config.sample.heun_steps, config.noise),),
        )
