"""Score-guided consistency training, the paper's method."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..._base.check import check_at_least, check_fraction, check_positive, check_share
from ..._base.defaults import HEAD_WEIGHT
from ..settings.config import Config
from ..settings.method import System
from .consistency import AbstractDoubling, HeadSource, HeadWeighting, Source, head_weighting

if TYPE_CHECKING:
    from ...curriculum import AbstractCurriculum

TEACHER_DECAY = 0.99


@dataclasses.dataclass(frozen=True)
class ScoreGuidance(AbstractDoubling):
    """The paper's: improved consistency training plus the head's denoising."""

    head_weight: float = HEAD_WEIGHT
    """Factor of the denoising loss, >= 0."""
    head_weighting: HeadWeighting = "edm"
    """Weighting of the denoising loss over noise levels: EDM's (the released code), or none (the paper's text)."""
    target: Source = "sample"
    """What the head learns at x_t: the clean sample (as published), or the posterior mean over the training set."""
    velocity: HeadSource = "sample"
    """Direction of the small step: the noise of this one sample (as published), its exact mean given x_t, the
    posterior mean over the training set (held in memory), the mean by the model's own head, or by the head of a moving
    average of the weights."""
    teacher_decay: float | None = None
    """Decay of that moving average, in [0, 1), default 0.99; a plain mean of all weights at first."""
    denoise_first: float = 0.0
    """Share of the run, in [0, 1), in which the head's denoising alone counts; the grid's stages begin after it. The
    consistency part is computed all the same, for nothing."""
    head_from: float = 0.0
    """Share of the run after which the denoising loss counts."""
    head_until: float = 1.0
    """Share of the run up to which the denoising loss counts."""
    head_ratio: float | None = None
    """Make the head's gradient over the torso this many times as long as the consistency's, at every update, by a
    second backward pass; default: head_weight decides alone."""

    @property
    def is_laid_out(self) -> bool:
        return self.period is None or (self.denoise_first, self.head_from, self.head_until) != (0, 0, 1)

    def check(self, config: Config) -> None:
        check_fraction("method.denoise_first", self.denoise_first)  # which the grid's stages begin after
        AbstractDoubling.check(self, config)
        check_at_least("method.head_weight", self.head_weight, 0)
        check_fraction("method.head_from", self.head_from)
        check_share("method.head_until", self.head_until)
        if self.head_from >= self.head_until:
            expected = f"more than method.head_from = {self.head_from:g}"
            raise ValueError(f"method.head_until: expected {expected}, found {self.head_until:g}")
        if self.denoise_first and (self.head_from or self.head_until < self.denoise_first):
            raise ValueError(
                f"method.denoise_first: expected 0, or a head that counts from the beginning at least so long, found "
                f"{self.denoise_first:g} with a head from {self.head_from:g} until {self.head_until:g}"
            )
        if self.head_ratio is not None:
            check_positive("method.head_ratio", self.head_ratio)
        self._check_head(config)

    def _check_head(self, config: Config) -> None:
        """That what is built on the head has a head that learns, and reaches the torso."""
        reads = self.velocity in ("head", "teacher-head")
        if self.teacher_decay is not None:
            check_fraction("method.teacher_decay", self.teacher_decay)
            if self.velocity != "teacher-head":
                raise ValueError(
                    f"method.teacher_decay: expected none with the velocity {self.velocity}, found {self.teacher_decay}"
                )
        if reads and (self.head_from > 0 or self.head_until < 1):
            raise ValueError(
                f"method.velocity: expected sample or posterior with a head that does not learn all the time, found "
                f"{self.velocity}"
            )
        asked = {"denoise_first": self.denoise_first, "head_ratio": self.head_ratio}
        for name in [name for name, value in asked.items() if value] + ["velocity"] * reads:
            if self.head_weight == 0:
                raise ValueError(f"method.head_weight: expected > 0 with method.{name}, which needs a head, found 0")
            if name != "velocity" and not config.head.guide:
                raise ValueError(
                    f"method.{name}: expected none with --head.no-guide, whose gradient never reaches the torso, found "
                    f"{asked[name]:g}"
                )

    def grid_steps(self, config: Config) -> int:
        return config.run.steps - self._update_at(self.denoise_first, config)

    def build_curriculum(self, config: Config) -> "AbstractCurriculum":
        from ...curriculum import Delayed

        curriculum, start = AbstractDoubling.build_curriculum(self, config), self._update_at(self.denoise_first, config)
        return Delayed(curriculum, start) if start else curriculum

    def build(self, config: Config, shape: tuple[int, ...]) -> System:
        from ...objectives.scaled import ScaledParts
        from ...objectives.score_guided import ScoreGuidedTraining
        from ..parts.models import score_guided_model
        from ..parts.sampling import heun

        weighting, factors = head_weighting(self.head_weighting, config), self._factors(config)
        own = lambda law: {
            "head_weight": self.head_weight,
            "head_weighting": weighting,
            "rho": config.noise.rho,
            "target": self._target(config, law) if self.target == "posterior" else None,
        }

        def objective(**settings: Any) -> Any:
            guided = ScoreGuidedTraining(**settings)
            return ScaledParts(guided, factors) if factors else guided

        return dataclasses.replace(
            self.build_system(config, shape, score_guided_model, objective, own),
            last_samplers=(heun(config.sample.heun_steps, config.noise),),
            teacher_share=self._teacher_share() if self.velocity == "teacher-head" else None,
            gradient_ratios={} if self.head_ratio is None else {"denoising": self.head_ratio},
        )

    def _target(self, config: Config, law: Callable[[], Any]) -> Any:
        from ...objectives.guided import AtScale

        return AtScale(law().denoise) if config.torso.guidance > 1 else law().denoise

    def _update_at(self, share: float, config: Config) -> int:
        return round(share * config.run.steps)

    def _factors(self, config: Config) -> dict[str, Callable[[Any], Any]]:
        """Which part of the loss counts at which update."""
        start, first, end = (
            self._update_at(share, config) for share in (self.denoise_first, self.head_from, self.head_until)
        )
        factors: dict[str, Callable[[Any], Any]] = {}
        if start:
            factors["consistency"] = lambda step: step >= start
        if first or self.head_until < 1:
            factors["denoising"] = lambda step: (step >= first) & (step < end)
        return factors

    def _teacher_share(self) -> Callable[[Any], Any]:
        import jax.numpy as jnp

        newest = 1 - (TEACHER_DECAY if self.teacher_decay is None else self.teacher_decay)
        return lambda step: jnp.maximum(newest, 1 / (step + 1))
