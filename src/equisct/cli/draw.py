"""The work of `equisct-sample`: load a run's model, draw, write."""

import pathlib
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np

from ..model import ScoreGuidedModel
from ..report import draw_grids, draw_scatters
from ..train import CheckpointError, PowerFunction, TrainState, init_state, read_checkpoint, reconstruct
from ..train.checkpoint import checkpoint_notes
from .build import build_model, build_recipe
from .config import Config, Noise
from .folder import read_config
from .options import Options
from .sampling import Sampler, consistency_sampler, draw_samples, heun_sampler


def load_run(run: pathlib.Path, step: int | None) -> tuple[Config, int, TrainState]:
    """A run's configuration, and the state of its checkpoint at `step` (None: the newest whole one).

    Raises:
        CheckpointError: if there is none, or it is of another model.
    """
    config = read_config(run)
    step, notes = checkpoint_notes(run / "checkpoints", step)
    shape = _shape_of(notes)
    recipe = build_recipe(config)
    like = eqx.filter_eval_shape(lambda key: init_state(recipe, build_model(config, shape, key=key)), jr.key(0))
    return config, step, read_checkpoint(run / "checkpoints", like, step)


def _shape_of(notes: dict[str, Any]) -> tuple[int, ...]:
    """The shape of a sample that a run's checkpoint notes."""
    shape = notes.get("shape")
    sizes = shape if isinstance(shape, list) and len(shape) in (1, 3) else [0]
    if not all(type(size) is int and 0 < size < 2**16 for size in sizes):
        raise CheckpointError(f"checkpoint: expected the shape of a sample in its notes, found {shape!r}")
    return tuple(sizes)


def choose_weights(options: Options, state: TrainState, step: int) -> ScoreGuidedModel:
    """The averaged or the current weights, or an average of the width asked for, made from the run's snapshots."""
    if options.std is None:
        return state.ema if options.weights == "ema" else state.model
    model, residual = reconstruct(options.run / "averages", state.model, PowerFunction.from_std(options.std), None)
    print(f"average of relative width {options.std:g} from snapshots; its profile is off by {100 * residual:.2g} %")
    return model


def _sampler(options: Options, config: Config, noise: Noise) -> Sampler:
    if options.sampler == "heun":
        return heun_sampler(options.heun_steps, noise)
    levels = options.levels
    if options.sampler == "two-step" and not levels:
        levels = (config.sample.mid_sigma,)
    ordered = all(a > b for a, b in zip((noise.sigma_max, *levels), (*levels, noise.sigma_min), strict=True))
    if not ordered:
        raise ValueError(
            f"levels: expected descending levels between {noise.sigma_max} and {noise.sigma_min}, found {levels}"
        )
    return consistency_sampler(levels, noise)


def draw(options: Options) -> None:
    """Draws and writes the samples that `options` ask for."""
    config = read_config(options.run)
    sampler = _sampler(options, config, config.noise)
    config, step, state = load_run(options.run, options.step)
    model = choose_weights(options, state, step)
    _, notes = checkpoint_notes(options.run / "checkpoints", step)
    shape = _shape_of(notes)
    samples = draw_samples(sampler, model, shape, options.n, key=jr.key(options.seed))
    weights = options.weights if options.std is None else f"std {options.std:g}"
    title = f"{options.sampler}, {weights}, step {step:,}"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".npz":
        np.savez(options.out, samples=samples)
    elif len(shape) == 3:
        facts: dict[str, Any] = {"sampler": options.sampler, "seed": options.seed, "step": step}
        draw_grids({title: samples}, options.out, notes={name: str(fact) for name, fact in facts.items()})
    else:
        draw_scatters({title: samples}, options.out)
