"""Consistency training as first published."""

import dataclasses

from ..._base.check import check_at_least, check_fraction, check_positive
from ..._base.defaults import CT_DECAY, CT_FIRST, CT_LAST
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractConsistency, Distance


@dataclasses.dataclass(frozen=True)
class CT(AbstractConsistency):
    """Consistency training as first published: a moving-average teacher, uniform levels (Song et al. 2023)."""

    distance: Distance = "squared-l2"
    """Distance between student and teacher; the paper's best is lpips."""
    first: int = CT_FIRST
    """Grid points at the start."""
    last: int = CT_LAST
    """Grid intervals at the end of the run."""
    initial_decay: float = CT_DECAY
    """Averaging rate of the teacher's weights at the start, in (0, 1)."""

    @property
    def is_laid_out(self) -> bool:
        return True

    def check(self, config: Config) -> None:
        AbstractConsistency.check(self, config)
        check_at_least("method.first", self.first, 1)
        check_at_least("method.last", self.last, self.first)
        check_positive("method.initial_decay", self.initial_decay)
        check_fraction("method.initial_decay", self.initial_decay)

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...curriculum import SquareRoot
        from ...objectives.original_consistency import OriginalConsistencyTraining
        from ..parts.models import consistency_model
        from ..parts.sampling import jumps

        curriculum = SquareRoot(self.first, self.last, total_steps=config.run.steps, initial_decay=self.initial_decay)
        return System(
            model=lambda key: consistency_model(config, shape, key=key),
            objective=lambda teacher, dataset: OriginalConsistencyTraining(
                curriculum=curriculum, distance=self.build_distance(shape), stratify=self.stratify, **config.noise.grid
            ),
            samplers=lambda step: jumps(config),
            curriculum=curriculum,
            teacher_share=curriculum.teacher_share,
        )
