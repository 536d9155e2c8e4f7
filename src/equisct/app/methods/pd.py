"""Progressive distillation."""

import dataclasses
import pathlib
from typing import ClassVar, Literal

from ..._base.check import check_at_least
from ..settings.config import Config
from ..settings.method import Method, System


@dataclasses.dataclass(frozen=True)
class PD(Method):
    """Progressive distillation: the student learns two of its teacher's steps as one, then teaches (Salimans 2022)."""

    teacher: pathlib.Path = pathlib.Path("runs/teacher")
    """Folder of the first teacher's run, an EDM or DDPM; training starts from its averaged weights."""
    preconditioning: Literal["edm", "vp"] = "edm"
    """The teacher's: vp of DDPM, edm of EDM."""
    first: int = 512
    """Steps of the student's first stage."""
    last: int = 1
    """Steps of its last stage: the first halved some number of times."""
    period: int | None = None
    """Updates per stage, twice as many where one or two steps are left; default such that they fill the run."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the grid."""

    learns_steps: ClassVar[bool] = True

    @property
    def is_laid_out(self) -> bool:
        return self.period is None

    @property
    def units(self) -> int:
        """Periods in all the stages: two for the stages of one and two steps, one for each of the others."""
        stages = [self.first // 2**i for i in range(64) if self.first // 2**i >= max(self.last, 1)]
        return sum(2 if n <= 2 else 1 for n in stages)

    def check(self, config: Config) -> None:
        check_at_least("method.last", self.last, 1)
        check_at_least("method.first", self.first, self.last)
        if self.first % self.last or (self.first // self.last).bit_count() != 1:
            raise ValueError(
                f"method.first: expected method.last = {self.last} doubled some number of times, found {self.first}"
            )
        if self.period is not None:
            check_at_least("method.period", self.period, 1)
        elif 1 <= config.run.steps < self.units:
            raise ValueError(
                f"run.steps: expected at least one update per period ({self.units}), found {config.run.steps}"
            )

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...curriculum import Halving
        from ...objectives.progressive import ProgressiveDistillation
        from ...samplers import Euler
        from ..parts.models import denoising_model, transplant
        from ..parts.sampling import euler

        period = self.period or config.run.steps // self.units
        curriculum = Halving.from_periods(self.first, self.last, period=period, last_period=2 * period)
        objective = ProgressiveDistillation.from_curriculum(curriculum, stratify=self.stratify, **config.noise.grid)

        def samplers(step: int) -> tuple[Euler]:
            stage = int(curriculum.stage(max(step - 1, 0)))
            return (euler(curriculum.points[stage] - 1, config.noise),)

        return System(
            model=lambda key: denoising_model(config, shape, self.preconditioning, key=key),
            objective=lambda teacher: objective,
            samplers=samplers,
            start=transplant,
            curriculum=curriculum,
            teacher_share=curriculum.teacher_share,
            restarts=curriculum.starts[1:],
        )
