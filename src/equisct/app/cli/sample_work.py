"""The work of `equisct-sample`: load a run's model, draw, write."""

import dataclasses
from typing import Any

import jax.random as jr
import numpy as np

from ..._base.files import atomic_write
from ...data import save_pairs
from ...samplers import DDIM, AbstractSampler, Ancestral, Multistep
from ...train import PowerFunction, reconstruct
from ...variance_preserving import VPSchedule
from ..methods import PD
from ..parts.condition_size import CLASSES, NONE, kind_of
from ..parts.conditions import Conditions, in_a_row
from ..parts.sampling import draw_noise, draw_samples, euler, heun, jump
from ..report import draw_panels
from ..runs.progress import telling
from ..runs.stored import Stored, load_run, weights_hash
from ..settings.config import Noise
from .sample import DDIM_STEPS, HEUN_STEPS, Options, SamplerChoice

JUMPS = ("one-step", "two-step", "multistep")
WALKS = ("heun", "euler", "ddim", "ancestral")


def choose_weights(options: Options, stored: Stored) -> Any:
    """The averaged or the current weights, or an average of the width asked for, made from the run's snapshots."""
    if options.std is None:
        return stored.ema if options.weights == "ema" else stored.model
    model, residual = reconstruct(options.run / "averages", stored.model, PowerFunction.from_std(options.std), None)
    print(f"average of relative width {options.std:g} from snapshots; its profile is off by {100 * residual:.2g} %")
    return model


def choose_sampler(options: SamplerChoice, stored: Stored) -> AbstractSampler:
    """The sampler asked for; without one, the first of the method's own.

    Raises:
        ValueError: for a sampler that the model cannot be asked through, or levels out of order.
    """
    config, model = stored.config, stored.model
    if options.sampler is None:
        return config.method.build(config, stored.shape).samplers(stored.step)[0]
    able = (JUMPS if getattr(model, "endpoint", None) else ()) + (WALKS if getattr(model, "denoise", None) else ())
    if options.sampler not in able:
        found = f"{options.sampler} with a run of method {type(config.method).__name__}"
        raise ValueError(f"sampler: expected one of {', '.join(able)}, found {found}")
    if options.sampler in JUMPS:
        return _jumps(options, config.noise, config.sample.mid_sigma)
    steps, method = options.steps or HEUN_STEPS, config.method
    if isinstance(method, PD) and steps > method.first:
        raise ValueError(
            f"steps: expected at most {method.first}, the levels that this student has seen, found {steps}"
        )
    walks = {
        "heun": lambda: heun(steps, config.noise),
        "euler": lambda: euler(steps, config.noise),
        "ddim": lambda: DDIM(VPSchedule().quadratic(options.steps or DDIM_STEPS)),
        "ancestral": lambda: Ancestral(clip=1.0 if len(stored.shape) == 3 else None),
    }
    return walks[options.sampler]()


def _jumps(options: SamplerChoice, noise: Noise, mid_sigma: float) -> AbstractSampler:
    levels = options.levels
    if options.sampler == "two-step" and not levels:
        levels = (mid_sigma,)
    ordered = all(a > b for a, b in zip((noise.sigma_max, *levels), (*levels, noise.sigma_min), strict=True))
    if not ordered:
        raise ValueError(
            f"levels: expected descending levels between {noise.sigma_max} and {noise.sigma_min}, found {levels}"
        )
    return jump(levels, noise)


def choose_conditions(options: Options, stored: Stored, sampler: AbstractSampler) -> Conditions | None:
    """What to draw under: the classes or the vector asked for, else every class; None for a run without conditions.

    Raises:
        ValueError: for a condition or guidance that the run's model does not take.
    """
    config, asked = stored.config, options.condition
    kind, size = kind_of(config), config.torso.condition
    if kind == NONE:
        if asked:
            raise ValueError(f"condition: expected none with a run without a data.condition, found {asked[0]:g}")
        return with_guidance(None, options, stored, sampler)
    if kind == CLASSES:
        wrong = [each for each in asked if each not in range(size)]
        if wrong:
            raise ValueError(f"condition: expected classes, whole numbers 0 to {size - 1}, found {wrong[0]:g}")
        rows = np.array(asked or range(size), np.int32)[np.arange(options.n) * len(asked or range(size)) // options.n]
    elif len(asked) != size:
        raise ValueError(f"condition: expected the {size} numbers of a vector, found {len(asked)}")
    else:
        rows = np.array([asked], np.float32)
    return with_guidance(Conditions(rows), options, stored, sampler)


def with_guidance(
    told: Conditions | None, options: SamplerChoice, stored: Stored, sampler: AbstractSampler
) -> Conditions | None:
    """The conditions with the guidance asked for: a scale that the model is told, or by which each step is guided.

    Raises:
        ValueError: for guidance that the run's model, or a jump of it, cannot have.
    """
    scale, trained = options.guidance, stored.config.torso.guidance
    if told is None and scale is not None:
        raise ValueError(f"guidance: expected none with a run without a data.condition, found {scale:g}")
    if told is None or scale in (None, 1):
        return told
    jumps = isinstance(sampler, Multistep)
    if jumps and trained == 1:
        expected = "1 by consistency sampling of a run without torso.guidance (--sampler heun can be guided)"
        raise ValueError(f"guidance: expected {expected}, found {scale:g}")
    if jumps and scale and not 1 <= scale <= trained:
        print(f"note: guidance {scale:g} is beyond 1 to {trained:g}, which this model was trained for")
    return dataclasses.replace(told, scale=scale, inside=jumps)


def draw(options: Options) -> None:
    """Draws and writes the samples that `options` ask for."""
    stored = load_run(options.run, options.step)
    sampler = choose_sampler(options, stored)
    told = choose_conditions(options, stored, sampler)
    model = choose_weights(options, stored)
    with telling(f"drawing {options.n:,} samples by {sampler.name}"):
        samples = draw_samples(sampler, model, stored.shape, options.n, key=jr.key(options.seed), conditions=told)
    weights = options.weights if options.std is None else f"std {options.std:g}"
    title = f"{sampler.name}, {weights}, step {stored.step:,}"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.pairs:
        z = draw_noise(stored.shape, options.n, key=jr.key(options.seed))
        atomic_write(options.out, lambda place: save_pairs(place, z, samples, weights_hash(model)))
    elif options.out.suffix == ".npz":
        atomic_write(options.out, lambda place: np.savez(place, samples=samples))
    else:
        notes = {"sampler": sampler.name, "seed": str(options.seed), "step": str(stored.step)}
        across = None if options.condition else in_a_row(stored.config, options.n)
        draw_panels({title: samples}, options.out, across=across, notes=notes)
