"""What the consistency methods share: a distance, the doubling grid, a start from a denoiser, a head's weighting."""

import abc
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..._base.check import check_at_least, check_positive, check_share
from ..._base.defaults import FIRST_INTERVALS, ICT_LAW_MEAN, ICT_LAW_STD, LAST_INTERVALS
from ..settings.config import Config
from ..settings.method import Method, System

if TYPE_CHECKING:
    from ...curriculum import AbstractCurriculum
    from ...distance import AbstractDistance
    from ...model import ConsistencyModel
    from ...objectives.slots import Velocity
    from ...oracle import Empirical, Labelled
    from ...weighting import AbstractLevelWeighting

    Law = Empirical | Labelled

Source = Literal["sample", "posterior"]
HeadSource = Literal["sample", "posterior", "head", "teacher-head"]
Distance = Literal["pseudo-huber", "pseudo-huber-rms", "pseudo-huber-norm", "squared-l2", "l1", "lpips"]
HeadWeighting = Literal["edm", "constant"]


@dataclasses.dataclass(frozen=True)
class AbstractConsistency(Method, abc.ABC):
    """What all consistency methods have: a distance between student and teacher."""

    distance: Distance = "pseudo-huber"
    """Distance between student and teacher; the paper's is pseudo-huber, element-wise."""
    c: float | None = None
    """Knee of the pseudo-Huber, in data units; default 0.003 element-wise, 0.00054 per root dimension otherwise."""
    lpips: pathlib.Path = pathlib.Path("lpips")
    """Folder of the weights of the distance lpips (RGB images only): vgg16-397923af.pth of torchvision and vgg.pth of
    LPIPS 0.1, or the same as .safetensors."""
    stratify: bool = False
    """Spread each batch's noise levels evenly over the law."""

    def check(self, config: Config) -> None:
        del config
        if self.c is not None:
            check_positive("method.c", self.c)
            if not self.distance.startswith("pseudo-huber"):
                raise ValueError(f"method.c: expected none with the distance {self.distance}, found {self.c}")

    def build_distance(self, shape: tuple[int, ...]) -> "AbstractDistance":
        """The distance, for samples of `shape`.

        Raises:
            ValueError: if it is LPIPS and these are no RGB images, or its weights are not where they are said to be.
        """
        from ...distance import L1, PseudoHuber, PseudoHuberNorm, PseudoHuberRMS, SquaredL2
        from ...evaluation import load_lpips

        if self.distance == "lpips":
            if len(shape) != 3 or shape[0] != 3:
                raise ValueError(f"method.distance: expected RGB images (3, h, w) for lpips, found samples of {shape}")
            try:
                return load_lpips(self.lpips)
            except ValueError as error:
                raise ValueError(f"method.{error}") from error
        if self.distance in ("squared-l2", "l1"):
            return SquaredL2() if self.distance == "squared-l2" else L1()
        kinds = {"pseudo-huber": PseudoHuber, "pseudo-huber-rms": PseudoHuberRMS, "pseudo-huber-norm": PseudoHuberNorm}
        return kinds[self.distance]() if self.c is None else kinds[self.distance](self.c)


@dataclasses.dataclass(frozen=True)
class AbstractDoubling(AbstractConsistency, abc.ABC):
    """A consistency method on a grid that doubles, with log-normal levels: iCT and those that are built on it."""

    first: int = FIRST_INTERVALS
    """Grid intervals of the curriculum's first stage."""
    last: int = LAST_INTERVALS
    """Grid intervals of its last stage."""
    law_mean: float = ICT_LAW_MEAN
    """Mean of ln sigma in the law of the noise level."""
    law_std: float = ICT_LAW_STD
    """Standard deviation of ln sigma in the law of the noise level."""
    period: int | None = None
    """Updates between doublings of the grid; default run.steps divided by the number of stages."""
    velocity: HeadSource = "sample"
    """Direction of the small step: the noise of this one sample (as published), or its exact mean given x_t, the
    posterior mean over the training set (held in memory)."""
    velocity_share: float = 1.0
    """Share of that velocity in the small step, in [0, 1]; the rest is the noise of this one sample."""
    references: int | None = None
    """With the velocity posterior: over the sample and random others, this many in all; default the whole set."""
    heun_steps: int = 0
    """Heun steps that the small step is made of, each of two evaluations of the velocity; 0: one Euler step."""

    guides: ClassVar[bool] = True

    @property
    def is_laid_out(self) -> bool:
        return self.period is None

    def check(self, config: Config) -> None:
        AbstractConsistency.check(self, config)
        check_at_least("method.first", self.first, 1)
        check_at_least("method.last", self.last, self.first)
        check_positive("method.law_std", self.law_std)
        check_references(self.velocity, self.references, config)
        check_at_least("method.heun_steps", self.heun_steps, 0)
        if self.heun_steps and self.velocity == "sample":
            expected = "0 with the velocity sample, a straight line"
            raise ValueError(f"method.heun_steps: expected {expected}, found {self.heun_steps}")
        check_share("method.velocity_share", self.velocity_share)
        if self.velocity == "sample" and self.velocity_share != 1:
            expected = "1 with the velocity sample, which the rest is anyhow"
            raise ValueError(f"method.velocity_share: expected {expected}, found {self.velocity_share}")
        if config.torso.guidance > 1 and (self.velocity == "sample" or self.velocity_share != 1):
            raise ValueError(
                "torso.guidance: expected 1 with one sample's noise in the velocity, which cannot be guided, found "
                f"{config.torso.guidance:g} with the velocity {self.velocity} and its share {self.velocity_share:g}"
            )
        stages, steps = math.log2(self.last // self.first) + 1, self.grid_steps(config)
        if self.period is not None:
            check_at_least("method.period", self.period, 1)
        elif config.run.steps >= 1 and steps < stages:
            rest = f" of {config.run.steps} left for them" if steps < config.run.steps else ""
            raise ValueError(
                f"run.steps: expected at least one update per curriculum stage ({stages:g}), found {steps}{rest}"
            )

    def grid_steps(self, config: Config) -> int:
        """The updates that the grid's stages share."""
        return config.run.steps

    def build_system(
        self,
        config: Config,
        shape: tuple[int, ...],
        model: Callable[..., Any],
        objective: Callable[..., Any],
        own: "Callable[[Callable[[], Law]], dict[str, Any]]",
    ) -> System:
        """What trains `model(config, shape, key=...)` by an `objective` on this grid, and samples by jumps.

        The objective is told curriculum, distance, law, velocity, step, `stratify`, lowest and highest level, and what
        `own(law)` says, where `law()` is the training set as a distribution.
        """
        from ...level_sampling import LogNormal
        from ...objectives.guided import GuidedVelocity, RandomScales
        from ...objectives.slots import HeunSteps, heun_correction, straight_step
        from ..parts.posterior import training_posterior
        from ..parts.sampling import jumps

        curriculum, torso = self.build_curriculum(config), config.torso
        guided = torso.guidance > 1
        step = {0: straight_step, 1: heun_correction}.get(self.heun_steps) or HeunSteps(self.heun_steps)

        def build_objective(teacher: Any, dataset: Any) -> Any:
            law = functools.cache(lambda: training_posterior(config, dataset))  # once in memory, whoever asks
            velocity = self.build_velocity(law)
            built = objective(
                curriculum=curriculum,
                distance=self.build_distance(shape),
                law=LogNormal(mean=self.law_mean, std=self.law_std),
                velocity=GuidedVelocity(velocity) if guided else velocity,
                step=step,
                stratify=self.stratify,
                sigma_min=config.noise.sigma_min,
                sigma_max=config.noise.sigma_max,
                **own(law),
            )
            return RandomScales(built, 1.0, torso.guidance, null=torso.condition_dropout) if guided else built

        return System(
            model=lambda key: model(config, shape, key=key),
            objective=build_objective,
            samplers=lambda step: jumps(config),
            curriculum=curriculum,
        )

    def build_velocity(self, law: "Callable[[], Law]") -> "Velocity":
        """The velocity slot; `law` gives the training set, and raises `ValueError` where it is not in memory."""
        return velocity_slot(self.velocity, self.velocity_share, self.references, law)

    def build_curriculum(self, config: Config) -> "AbstractCurriculum":
        """The doubling curriculum, its period as configured or such that the run ends with its last stage."""
        from ...curriculum import Doubling

        if self.period is None:
            return Doubling.from_total(self.grid_steps(config), first=self.first, last=self.last)
        return Doubling(self.first, self.last, period=self.period)


def check_references(source: HeadSource, references: int | None, config: Config) -> None:
    """Raises `ValueError` unless the number of references fits the source of the velocity and the data."""
    if references is None:
        return
    check_at_least("method.references", references, 1)
    if source != "posterior":
        raise ValueError(f"method.references: expected none with the velocity {source}, found {references}")
    if getattr(config.data, "condition", "none") != "none":
        expected = "none with data.condition, whose classes they would mix up"
        raise ValueError(f"method.references: expected {expected}, found {references}")


def velocity_slot(source: HeadSource, share: float, references: int | None, law: "Callable[[], Law]") -> "Velocity":
    """`share` of a source, the rest one sample's noise; `law` gives the training set.

    Raises:
        ValueError: if it is needed and not in memory, or smaller than the references.
    """
    from ...objectives.velocity import (
        DenoiserVelocity,
        MixedVelocity,
        ReferenceVelocity,
        head_velocity,
        one_sample_velocity,
        teacher_head_velocity,
    )

    def over_the_data() -> "Velocity":
        if references is None:
            return DenoiserVelocity(law().denoise)
        points = law().points
        if references > len(points):
            raise ValueError(
                f"method.references: expected at most the training set's {len(points)} samples, found {references}"
            )
        return ReferenceVelocity(points, references)

    given = {"sample": one_sample_velocity, "head": head_velocity, "teacher-head": teacher_head_velocity}
    found = over_the_data() if source == "posterior" else given[source]
    return found if share == 1 or source == "sample" else MixedVelocity(found, one_sample_velocity, share)


def head_weighting(name: HeadWeighting, config: Config) -> "AbstractLevelWeighting":
    """The weighting of the head's loss by its name on the command line."""
    from ...weighting import ConstantWeighting, EDMWeighting

    return EDMWeighting(sigma_data=config.noise.sigma_data) if name == "edm" else ConstantWeighting()


def from_network_of(model: "ConsistencyModel", teacher: Any) -> "ConsistencyModel":
    """The consistency model with the weights of a denoiser's network, or of the torso under a score head."""
    from ...model import ConsistencyModel, DenoisingModel, consistency_part
    from ..parts.models import transplant

    network = teacher.network if isinstance(teacher, DenoisingModel) else consistency_part(teacher).torso
    return ConsistencyModel(transplant(model.torso, network), model.preconditioning)
