"""From a method's settings to its `System`: the model, the objective, the stages, and how samples are drawn."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from ..._base.types import Key, Scalar, Step
from ...augmentation import Augmentation
from ...curriculum import AbstractCurriculum, Constant, SquareRoot
from ...distance import L1, SquaredL2
from ...level_sampling import LogNormal
from ...model import ConsistencyModel, DenoisingModel, consistency_part
from ...objectives.consistency import ConsistencyTraining
from ...objectives.denoising import DDPMTraining, EDMTraining
from ...objectives.distillation import ConsistencyDistillation
from ...objectives.easy_tuning import EasyConsistencyTuning
from ...objectives.knowledge import KnowledgeDistillation
from ...objectives.original_consistency import OriginalConsistencyTraining
from ...objectives.progressive import ProgressiveDistillation
from ...objectives.score_guided import ScoreGuided, ScoreGuidedTraining
from ...objectives.slots import heun_correction, straight_step
from ...objectives.terms import Objective
from ...variance_preserving import VPSchedule
from ..settings import methods
from ..settings.config import Config
from .models import Shape, consistency_model, denoising_model, score_guided_model
from .objectives import build_distance, build_doubling, build_halving, head_weighting
from .sampling import Sampler, ancestral_sampler, consistency_sampler, ddim_sampler, euler_sampler, heun_sampler
from .transplant import transplant


@dataclasses.dataclass(frozen=True)
class System:
    """What a method trains, and how; models are those of `equisct.model`.

    Args:
        model: `key -> model`, with fresh weights.
        objective: `teacher -> objective`; the teacher is the model of the run in `method.teacher`, or None.
        samplers: `updates done -> {title: sampler}`, the method's own first, for the pictures of a run.
        start: `(model, teacher) -> model` with which training begins; by default the fresh one.
        curriculum: the stages, for the statistics per stage; None where there are none.
        teacher_share: of `train.Recipe`: keep a teacher beside the model.
        restarts: updates at which the optimiser starts anew, ascending.
        last_samplers: more of them, for the last picture.
    """

    model: Callable[[Key], Any]
    objective: Callable[[Any], Objective]
    samplers: Callable[[int], dict[str, Sampler]]
    start: Callable[[Any, Any], Any] = lambda model, teacher: model
    curriculum: AbstractCurriculum | None = None
    teacher_share: Callable[[Step], Scalar] | None = None
    restarts: tuple[int, ...] = ()
    last_samplers: dict[str, Sampler] = dataclasses.field(default_factory=dict)


@functools.singledispatch
def build_system(method: methods.Method, config: Config, shape: Shape) -> System:
    """The system of a method for samples of `shape`, `(c, h, w)` or `(d,)`; one function per class of settings.

    Raises:
        ValueError: settings that do not fit each other or the shape; names them.
        TypeError: for a method without a system.
    """
    del config, shape
    raise TypeError(
        f"method: expected one with a system (register it with build_system), found {type(method).__name__}"
    )


def _grid(config: Config) -> dict[str, Any]:
    noise = config.noise
    return {"sigma_min": noise.sigma_min, "sigma_max": noise.sigma_max, "rho": noise.rho}


def jumps(config: Config) -> dict[str, Sampler]:
    """Consistency sampling in one and in two steps."""
    mid, noise = config.sample.mid_sigma, config.noise
    return {
        "one step": consistency_sampler((), noise),
        f"two steps (mid {mid:g})": consistency_sampler((mid,), noise),
    }


def _through_the_head(config: Config) -> dict[str, Sampler]:
    steps = config.sample.heun_steps
    return {f"Heun {steps} through the head": heun_sampler(steps, config.noise)}


# --- the systems ---


@build_system.register
def _(method: methods.ScoreGuidance, config: Config, shape: Shape) -> System:
    curriculum = build_doubling(method, config.run.steps)
    objective = lambda teacher: ScoreGuidedTraining(
        curriculum=curriculum,
        distance=build_distance(method, shape),
        head_weight=method.head_weight,
        head_weighting=head_weighting(method.head_weighting, config),
        law=LogNormal(mean=method.law_mean, std=method.law_std),
        stratify=method.stratify,
        **_grid(config),
    )
    return System(
        lambda key: score_guided_model(config, shape, key=key),
        objective,
        lambda step: jumps(config),
        curriculum=curriculum,
        last_samplers=_through_the_head(config),
    )


@build_system.register
def _(method: methods.ICT, config: Config, shape: Shape) -> System:
    curriculum = build_doubling(method, config.run.steps)
    objective = lambda teacher: ConsistencyTraining(
        curriculum=curriculum,
        distance=build_distance(method, shape),
        law=LogNormal(mean=method.law_mean, std=method.law_std),
        stratify=method.stratify,
        **_grid(config),
    )
    return System(
        lambda key: consistency_model(config, shape, key=key),
        objective,
        lambda step: jumps(config),
        curriculum=curriculum,
    )


@build_system.register
def _(method: methods.ECT, config: Config, shape: Shape) -> System:
    curriculum = build_doubling(method, config.run.steps)
    objective = lambda teacher: EasyConsistencyTuning(
        curriculum=curriculum,
        distance=build_distance(method, shape),
        law=LogNormal(mean=method.law_mean, std=method.law_std),
        k=method.widening,
        b=method.narrowing,
        sigma_min=config.noise.sigma_min,
        sigma_max=config.noise.sigma_max,
        stratify=method.stratify,
    )
    return System(
        lambda key: consistency_model(config, shape, key=key),
        objective,
        lambda step: jumps(config),
        start=_from_its_network,
        curriculum=curriculum,
    )


@build_system.register
def _(method: methods.CT, config: Config, shape: Shape) -> System:
    curriculum = SquareRoot(method.first, method.last, total_steps=config.run.steps, initial_decay=method.initial_decay)
    objective = lambda teacher: OriginalConsistencyTraining(
        curriculum=curriculum,
        distance=build_distance(method, shape),
        stratify=method.stratify,
        **_grid(config),
    )
    return System(
        lambda key: consistency_model(config, shape, key=key),
        objective,
        lambda step: jumps(config),
        curriculum=curriculum,
        teacher_share=curriculum.teacher_share,
    )


@build_system.register
def _(method: methods.CD, config: Config, shape: Shape) -> System:
    curriculum = Constant(method.points)

    def objective(teacher: Any) -> Objective:
        consistency = ConsistencyDistillation(
            denoise=None if teacher is None else teacher.denoise,
            curriculum=curriculum,
            distance=build_distance(method, shape),
            step=heun_correction if method.solver == "heun" else straight_step,
            stratify=method.stratify,
            **_grid(config),
        )
        if method.teacher is not None:
            return consistency
        return ScoreGuided(consistency, method.head_weight, head_weighting(method.head_weighting, config))

    alone = method.teacher is not None
    make = consistency_model if alone else score_guided_model
    return System(
        lambda key: make(config, shape, key=key),
        objective,
        lambda step: jumps(config),
        start=_from_its_network if alone else lambda model, teacher: model,
        curriculum=curriculum,
        last_samplers={} if alone else _through_the_head(config),
    )


@build_system.register
def _(method: methods.EDM, config: Config, shape: Shape) -> System:
    law = LogNormal(mean=method.law_mean, std=method.law_std)
    augment = Augmentation(method.augment) if method.augment else None
    objective = EDMTraining(sigma_data=config.noise.sigma_data, law=law, stratify=method.stratify, augment=augment)
    steps = config.sample.heun_steps
    return System(
        lambda key: denoising_model(config, shape, "edm", key=key),
        lambda teacher: objective,
        lambda step: {f"Heun {steps}": heun_sampler(steps, config.noise)},
    )


@build_system.register
def _(method: methods.DDPM, config: Config, shape: Shape) -> System:
    objective = DDPMTraining(stratify=method.stratify)
    return System(
        lambda key: denoising_model(config, shape, "vp", key=key),
        lambda teacher: objective,
        lambda step: {"DDIM 50": ddim_sampler(50)},
        last_samplers={"ancestral 1000": ancestral_sampler()},
    )


@build_system.register
def _(method: methods.PD, config: Config, shape: Shape) -> System:
    curriculum = build_halving(method, config.run.steps)
    objective = ProgressiveDistillation.from_curriculum(curriculum, stratify=method.stratify, **_grid(config))

    def samplers(step: int) -> dict[str, Sampler]:
        steps = curriculum.points[int(curriculum.stage(max(step - 1, 0)))] - 1
        return {f"{steps} Euler step{'s' if steps > 1 else ''}": euler_sampler(steps, config.noise)}

    return System(
        lambda key: denoising_model(config, shape, method.preconditioning, key=key),
        lambda teacher: objective,
        samplers,
        start=transplant,
        curriculum=curriculum,
        teacher_share=curriculum.teacher_share,
        restarts=curriculum.starts[1:],
    )


@build_system.register
def _(method: methods.KD, config: Config, shape: Shape) -> System:
    top = top_level(method, config)
    distance = L1() if method.distance == "l1" else SquaredL2()
    return System(
        lambda key: denoising_model(config, shape, method.preconditioning, key=key),
        lambda teacher: KnowledgeDistillation(top, distance),
        lambda step: {"one step": euler_sampler(1, dataclasses.replace(config.noise, sigma_max=top))},
        start=transplant,
    )


def top_level(method: methods.KD, config: Config) -> float:
    """The level at which a student of knowledge distillation sees the noise."""
    return float(VPSchedule().sigmas[-1]) if method.preconditioning == "vp" else config.noise.sigma_max


def _from_its_network(model: ConsistencyModel, teacher: Any) -> ConsistencyModel:
    """The consistency model with the weights of a denoiser's network, or of the torso under a score head."""
    network = teacher.network if isinstance(teacher, DenoisingModel) else consistency_part(teacher).torso
    return ConsistencyModel(transplant(model.torso, network), model.preconditioning)
