"""Score-guided consistency training, the paper's method."""

import dataclasses

from ..._base.check import check_at_least
from ..._base.defaults import HEAD_WEIGHT
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling, HeadWeighting, Source, head_weighting


@dataclasses.dataclass(frozen=True)
class ScoreGuidance(AbstractDoubling):
    """The paper's: improved consistency training plus the head's denoising."""

    head_weight: float = HEAD_WEIGHT
    """Factor of the denoising loss, >= 0."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of the denoising loss over noise levels: EDM's (the released code), or none (the paper's text)."""
    target: Source = "sample"
    """What the head learns at x_t: the clean sample (as published), or the posterior mean over the training set."""

    def check(self, config: Config) -> None:
        AbstractDoubling.check(self, config)
        check_at_least("method.head_weight", self.head_weight, 0)

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...objectives.score_guided import ScoreGuidedTraining
        from ..parts.models import score_guided_model
        from ..parts.sampling import heun

        weighting = head_weighting(self.head_weighting, config)
        own = lambda law: {
            "head_weight": self.head_weight,
            "head_weighting": weighting,
            "rho": config.noise.rho,
            "target": law().denoise if self.target == "posterior" else None,
        }
        system = self.build_system(config, shape, score_guided_model, ScoreGuidedTraining, own)
        return dataclasses.replace(system, last_samplers=(heun(config.sample.heun_steps, config.noise),))
