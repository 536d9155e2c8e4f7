"""From a configuration to a `Recipe`: optimiser, averages, and how an update is computed. Nothing here trains."""

import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ...data import Dataset
from ...model import ScoreGuidedModel
from ...oracle import ProductMixture
from ...train import AbstractAverage, ConstantDecay, PowerFunction, RampedDecay, Recipe, restarting
from ..settings.config import Config, Ema, Optim
from ..settings.data import Mixture
from ..settings.method import System
from .data import rotated_modes
from .posterior import divided


def build_recipe(
    config: Config, system: System, teacher: Any, dataset: Dataset | None = None, mesh: Mesh | None = None
) -> Recipe:
    """Objective, optimiser, weight averages and how an update is computed.

    Args:
        config: of the run.
        system: of its method.
        teacher: the model that the run in `method.teacher` trained, or None.
        dataset: what it learns from; needed only by objectives that hold it.
        mesh: of devices; what the objective holds of the data is divided among them.
    """
    return Recipe(
        divided(system.objective(teacher, dataset), mesh),
        build_optimiser(config.optim, config.run.steps, system.restarts),
        average=build_average(config.ema),
        averages=(*map(ConstantDecay, config.ema.decays), *map(PowerFunction.from_std, config.ema.stds)),
        teacher_share=system.teacher_share,
        gradient_parts=config.log.gradient_parts,
        gradient_ratios=system.gradient_ratios,
        microbatches=config.parallel.microbatches,
        compute_dtype=jnp.dtype(config.parallel.precision).type,
    )


def build_optimiser(optim: Optim, steps: int, restarts: tuple[int, ...] = ()) -> optax.GradientTransformation:
    """RAdam or Adam for torso and head, each at its learning rate, behind an optional clip."""

    def scaled(lr: float) -> optax.GradientTransformation:
        scale = optax.scale_by_radam if optim.name == "radam" else optax.scale_by_adam
        direction = scale(b1=optim.b1, b2=optim.b2)
        rate = _learning_rate(optim, lr, steps, restarts)
        return optax.chain(
            restarting(direction, restarts) if restarts else direction, optax.scale_by_learning_rate(rate)
        )

    both = scaled(optim.lr)
    if optim.head_lr not in (None, optim.lr):
        both = optax.partition({"cm": scaled(optim.lr), "head": scaled(optim.head_lr)}, _labels)
    return both if optim.clip is None else optax.chain(optax.clip_by_global_norm(optim.clip), both)


def _labels(model: Any) -> Any:
    """Which optimiser has which part of a pair."""
    if not isinstance(model, ScoreGuidedModel):
        raise ValueError("optim.head_lr: expected none with a method without a score head, found one")  # noqa: TRY004  (a setting)
    return eqx.tree_at(lambda pair: (pair.cm, pair.head), model, ("cm", "head"))


def _learning_rate(optim: Optim, lr: float, steps: int, restarts: tuple[int, ...]) -> float | optax.Schedule:
    if restarts and optim.decay:  # in each stage from the whole rate to 0
        spans = itertools.pairwise((0, *restarts, steps))
        falls = [optax.linear_schedule(lr, 0.0, max(end - start, 1)) for start, end in spans]
        return optax.join_schedules(falls, list(restarts))
    if not optim.warmup and not optim.decay:
        return lr
    rise = optax.linear_schedule(0.0, lr, optim.warmup) if optim.warmup else optax.constant_schedule(lr)
    if not optim.decay:
        return rise
    half = max(steps // 2, optim.warmup)
    fall = optax.cosine_decay_schedule(lr, max(steps - half, 1))
    return optax.join_schedules([rise, fall], [half])


def build_average(ema: Ema) -> AbstractAverage:
    """The average that sampling uses."""
    if ema.decay is None:
        return PowerFunction.from_std(ema.std)
    return RampedDecay(ema.decay, ema.ramp) if ema.ramp else ConstantDecay(ema.decay)


def build_oracle(mixture: Mixture) -> ProductMixture:
    """The closed-form law that `Mixture` data are drawn from."""
    modes, rotation = rotated_modes(mixture)
    return ProductMixture(*(jnp.asarray(each, jnp.float32) for each in (modes, mixture.std, rotation)))
