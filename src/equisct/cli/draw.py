"""The work of `equisct-sample`: load a run's model, draw, write."""

import json
import pathlib

import equinox as eqx
import jax.random as jr
import numpy as np
from safetensors import SafetensorError, safe_open

from ..model import ScoreGuidedModel
from ..report import draw_grids, draw_scatters
from ..train import load_weights
from .build import build_model
from .codec import from_json
from .config import Config, Noise
from .options import Options
from .sampling import Sampler, consistency_sampler, draw_samples, heun_sampler


def _last_checkpoint(run: pathlib.Path) -> pathlib.Path:
    found = sorted((run / "checkpoints").glob("step_*.safetensors"))
    if not found:
        raise ValueError(f"run: expected a checkpoint in {run / 'checkpoints'}, found none")
    return found[-1]


def _shape(checkpoint: pathlib.Path) -> tuple[int, ...]:
    """The shape of one sample, from the checkpoint's header."""
    try:
        with safe_open(checkpoint, framework="numpy") as file:
            shape = json.loads((file.metadata() or {})["shape"])
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint: expected one of equisct-train, found {checkpoint} ({error})") from error
    if not (isinstance(shape, list) and len(shape) in (1, 3) and all(type(n) is int and n > 0 for n in shape)):
        raise ValueError(f"checkpoint: expected the shape of a sample in {checkpoint}, found {shape}")
    return tuple(shape)


def load_run(run: pathlib.Path, checkpoint: pathlib.Path, weights: str) -> tuple[Config, ScoreGuidedModel]:
    """The configuration of a run and its model with the weights of a checkpoint."""
    try:
        config = from_json(json.loads((run / "config.json").read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"run: expected JSON in {run / 'config.json'}, found {error}") from error
    like = eqx.filter_eval_shape(lambda key: build_model(config, _shape(checkpoint), key=key), jr.key(0))
    return config, load_weights(checkpoint, like, group=weights)


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
    checkpoint = options.checkpoint or _last_checkpoint(options.run)
    config, model = load_run(options.run, checkpoint, options.weights)
    sampler = _sampler(options, config, config.noise)
    shape = _shape(checkpoint)
    samples = draw_samples(sampler, model, shape, options.n, key=jr.key(options.seed))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".npz":
        np.savez(options.out, samples=samples)
    elif len(shape) == 3:
        notes = {"sampler": options.sampler, "seed": str(options.seed), "checkpoint": checkpoint.name}
        draw_grids({options.sampler: samples}, options.out, notes=notes)
    else:
        draw_scatters({options.sampler: samples}, options.out)
