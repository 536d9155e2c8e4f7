"""What a run would be, without running it: `--run.dry-run`."""

import json
import sys
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jax.sharding import Mesh

from ..._base.batch import as_example
from ..._base.tree import count
from ...data import Dataset
from ...model import DenoisingModel, ScoreGuidedModel
from ...train import compile_step
from ...train.placement import place
from ...train.posthoc import mean_age
from ...train.state import state_by_shape
from ..parts.posterior import held_in_words
from ..parts.recipe import build_average, build_recipe
from ..runs.stored import load_teacher
from ..settings.codec import to_json
from ..settings.config import Config


def describe(config: Config, dataset: Dataset, mesh: Mesh, *, goes_on: bool) -> str:
    """The settings, sizes, memory per device (from the compiled step) and places of a run, in words."""
    shape = dataset.shape
    system, teacher = config.method.build(config, shape), load_teacher(config, shape)
    recipe = build_recipe(config, system, place(teacher.model, mesh) if teacher else None, dataset, mesh)
    state = state_by_shape(recipe, lambda: system.model(jr.key(0)), mesh=mesh)
    rows = jax.tree.map(
        lambda leaf: np.zeros((config.run.batch // jax.process_count(), *leaf.shape[1:]), leaf.dtype),
        dataset.take(np.arange(1)),
    )
    print("(compiling one update to see what memory it needs: up to a minute on a CPU)", file=sys.stderr)
    program = compile_step(recipe, state, rows, jr.key(0))
    run, memory = config.run, program.memory_analysis()
    mebibytes = lambda size: f"{size / 2**20:,.1f} MiB"
    kept, taken = (memory.argument_size_in_bytes, memory.temp_size_in_bytes) if memory else (float("nan"),) * 2
    costs = program.cost_analysis() or {}
    lines = {
        "data": f"{dataset.size:,} samples of shape {dataset.shape}; {_batch_in_words(dataset, run.batch)} "
        f"(noise.sigma_data is {config.noise.sigma_data:g})",
        "parameters": parameters_in_words(state.model),
        "length": f"{run.steps:,} updates of {run.batch:,} samples: {run.steps * run.batch / dataset.size:,.1f} epochs "
        f"of {dataset.size / run.batch:,.1f} updates",
        "average": average_in_words(config),
        "posterior": held_in_words(recipe.objective, mesh),
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}, mesh {dict(mesh.shape)}, "
        f"{jax.process_count()} process(es)",
        "memory": f"per device {mebibytes(kept)} for state and batch, {mebibytes(taken)} "
        f"while an update runs, {mebibytes(kept + taken)} in all",
        "work": f"{costs.get('flops', float('nan')) / 1e9:,.2f} GFLOP per update and device",
        "folder": f"{run.dir} ({'goes on with the run there' if goes_on else 'new'})",
    }
    told = "\n".join(f"{name + ':':12} {text}" for name, text in lines.items() if text)
    return f"settings:\n{json.dumps(to_json(config), indent=2)}\n{told}"


def average_in_words(config: Config) -> str:
    """How far back the average reaches that samples are drawn with, at the end of the run."""
    steps, rule = config.run.steps, config.ema.rule
    back = mean_age(build_average(config.ema), steps)
    return f"of weights {back:,.0f} updates old in the mean at the end, {back / steps:.1%} of the run (ema: {rule})"


def parameters_in_words(model: Any) -> str:
    """How many numbers a model learns, and where."""
    if isinstance(model, ScoreGuidedModel):
        return f"{count(model.cm):,} in the consistency model, {count(model.head):,} in the head"
    return f"{count(model):,} in the {'denoiser' if isinstance(model, DenoisingModel) else 'consistency model'}"


def _batch_in_words(dataset: Dataset, size: int) -> str:
    x = as_example(dataset.take(np.arange(min(size, dataset.size)))).x
    return f"those of a batch {x.min():.3g} to {x.max():.3g}, mean {x.mean():.3g}, standard deviation {x.std():.3g}"
