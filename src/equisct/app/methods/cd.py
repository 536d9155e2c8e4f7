"""Consistency distillation."""

import dataclasses
import pathlib
from typing import Any, Literal

from ..._base.check import check_at_least
from ..._base.defaults import HEAD_WEIGHT, KARRAS_POINTS
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractConsistency, Distance, HeadWeighting, from_network_of, head_weighting


@dataclasses.dataclass(frozen=True)
class CD(AbstractConsistency):
    """Consistency distillation: the small step follows a denoiser (Song et al. 2023)."""

    distance: Distance = "squared-l2"
    """Distance between student and teacher; the paper's best is lpips."""
    teacher: pathlib.Path | None = None
    """Folder of a denoiser's run; training starts from its averaged weights. None: a score head, trained beside it."""
    points: int = KARRAS_POINTS
    """Grid points."""
    solver: Literal["heun", "euler"] = "heun"
    """How the small step follows the denoiser."""
    head_weight: float = HEAD_WEIGHT
    """Factor of the denoising loss of the score head, >= 0; without a teacher."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of that loss over noise levels."""

    def check(self, config: Config) -> None:
        AbstractConsistency.check(self, config)
        check_at_least("method.points", self.points, 2)
        check_at_least("method.head_weight", self.head_weight, 0)
        if self.teacher is None and self.head_weight == 0:
            raise ValueError(
                "method.head_weight: expected > 0 without a method.teacher, whose place the head has, found 0"
            )

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...curriculum import Constant
        from ...objectives.distillation import ConsistencyDistillation
        from ...objectives.score_guided import ScoreGuided
        from ...objectives.slots import heun_correction, straight_step
        from ..parts.models import consistency_model, score_guided_model
        from ..parts.sampling import heun, jumps

        curriculum, alone = Constant(self.points), self.teacher is not None
        make = consistency_model if alone else score_guided_model

        def objective(teacher: Any, dataset: Any) -> Any:
            consistency = ConsistencyDistillation(
                denoise=None if teacher is None else teacher.denoise,
                curriculum=curriculum,
                distance=self.build_distance(shape),
                step=heun_correction if self.solver == "heun" else straight_step,
                stratify=self.stratify,
                **config.noise.grid,
            )
            if alone:
                return consistency
            return ScoreGuided(consistency, self.head_weight, head_weighting(self.head_weighting, config))

        return System(
            model=lambda key: make(config, shape, key=key),
            objective=objective,
            samplers=lambda step: jumps(config),
            start=from_network_of if alone else lambda model, teacher: model,
            curriculum=curriculum,
            last_samplers=() if alone else (heun(config.sample.heun_steps, config.noise),),
        )
