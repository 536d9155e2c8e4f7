"""A training run from its configuration to its folder: the only place that joins training, data and report."""

import contextlib
import itertools
import json
import math
import os
import pathlib
import time
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.sharding import Mesh

from ..data import Dataset, Loader
from ..diagnostics import format_agreement, measure_agreement
from ..model import ScoreGuidedModel
from ..report import draw_curves, draw_grids, draw_scatters
from ..train import StepReport, TrainState, data_mesh, fit, init_state, save_weights
from .build import build_model, build_oracle, build_recipe
from .codec import to_json
from .config import Config, Mixture
from .metrics import append_row, make_row
from .progress import open_progress
from .sampling import consistency_sampler, draw_samples, heun_sampler


def choose_mesh(config: Config) -> Mesh:
    """The devices of the run: `run.devices`, or all; on a CPU one per core, as many as divide the batch.

    Raises:
        ValueError: if there are not so many, or the batch cannot be divided among them.
    """
    wanted = config.run.devices or math.gcd(config.run.batch, _cores())
    with contextlib.suppress(RuntimeError):  # JAX runs already in this process: its devices stay as they are
        jax.config.update("jax_num_cpu_devices", wanted)
    mesh = data_mesh(wanted if jax.default_backend() == "cpu" else config.run.devices)
    if config.run.batch % mesh.size:
        raise ValueError(f"run.batch: expected a multiple of the {mesh.size} devices, found {config.run.batch}")
    return mesh


def _cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def build_by_shape(config: Config, dataset: Dataset) -> Any:
    """The model's shapes alone, so that settings that do not fit together fail before anything is written."""
    return eqx.filter_eval_shape(lambda key: build_model(config, dataset.shape, key=key), jr.key(0))


def train(config: Config, dataset: Dataset, mesh: Mesh, folder: pathlib.Path) -> None:
    """Trains, and fills `folder`, which exists: metrics, checkpoints, curves, samples; for a mixture agreement.txt."""
    init_key, train_key, sample_key = jr.split(jr.key(config.run.seed), 3)
    flip = getattr(config.data, "flip", False)
    loader = Loader(dataset, config.run.batch, seed=config.run.seed, flip=flip)
    recipe = build_recipe(config)
    model = build_model(config, dataset.shape, key=init_key)
    state = init_state(recipe, model, mesh=mesh)

    state, rows = _loop(config, recipe, state, loader, train_key, folder)

    draw_curves(rows, folder / "curves.png")
    _sample(config, state.ema, dataset.shape, sample_key, folder)
    if isinstance(config.data, Mixture):
        _report_agreement(config, state.ema, sample_key, folder)


def _loop(
    config: Config, recipe: Any, state: TrainState, loader: Loader, key: Any, folder: pathlib.Path
) -> tuple[TrainState, list[dict[str, Any]]]:
    run = config.run
    curriculum = recipe.objective.consistency.curriculum
    window: list[StepReport] = []
    rows: list[dict[str, Any]] = []
    progress = open_progress(run.steps)
    loss, rate, since = None, 0.0, time.monotonic()
    updates = fit(recipe, state, loader, key=key, steps=run.steps)
    for step, (state, report) in enumerate(updates, start=1):
        window.append(report)
        if step % run.log_every == 0 or step == run.steps:
            points = curriculum.points[int(curriculum.stage(step - 1))]
            jax.block_until_ready(report)
            rate = len(window) * run.batch / (time.monotonic() - since)
            row = make_row(window, step=step, points=points, images_per_second=rate)
            append_row(folder / "metrics.jsonl", row)
            rows.append(row)
            loss, window, since = row["loss"], [], time.monotonic()
            if row["skipped"]:
                warnings.warn(f"{row['skipped']} updates up to step {step} were not finite and skipped", stacklevel=2)
        if step % run.save_every == 0 or step == run.steps:
            _save(state, loader.dataset.shape, step, folder)
        progress.update(step, loss, rate)
    progress.close()
    return state, rows


def _save(state: TrainState, shape: tuple[int, ...], step: int, folder: pathlib.Path) -> None:
    metadata = {"step": str(step), "shape": json.dumps(shape)}
    path = folder / "checkpoints" / f"step_{step:08d}.safetensors"
    save_weights(path, model=state.model, ema=state.ema, metadata=metadata)


def _sample(config: Config, model: ScoreGuidedModel, shape: tuple[int, ...], key: Any, folder: pathlib.Path) -> None:
    sample, noise = config.sample, config.noise
    samplers = {
        "one step": consistency_sampler((), noise),
        f"two steps (mid {sample.mid_sigma:g})": consistency_sampler((sample.mid_sigma,), noise),
        f"Heun {sample.heun_steps} through the head": heun_sampler(sample.heun_steps, noise),
    }
    panels = {title: draw_samples(sampler, model, shape, sample.n, key=key) for title, sampler in samplers.items()}
    path = folder / "samples" / f"step_{config.run.steps:08d}_ema.png"
    if len(shape) == 3:
        notes = {"step": str(config.run.steps), "seed": str(config.run.seed), "preset": config.preset}
        draw_grids(panels, path, notes=notes)
    else:
        draw_scatters(panels, path)


def _report_agreement(config: Config, model: ScoreGuidedModel, key: Any, folder: pathlib.Path) -> None:
    """Prints and stores how far the pair is from the mixture's exact flow map and posterior mean."""
    assert isinstance(config.data, Mixture)
    noise = config.noise
    levels = jnp.array([level for level in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, noise.sigma_max) if level])
    agreement = measure_agreement(
        model, build_oracle(config.data), levels, samples=2_000, sigma_min=noise.sigma_min, key=key
    )
    text = (
        "Distance from the truth (data units; data within about 1.5): one-step endpoint against the diffrax\n"
        "solution of the exact PF-ODE, score head against the exact posterior mean.\n" + format_agreement(agreement)
    )
    print(text)
    (folder / "agreement.txt").write_text(text + "\n")


def choose_folder(config: Config) -> pathlib.Path:
    """The run's folder, not made yet: `run.dir`, which must be new or empty, or the first free `runs/PRESET[-K]`."""
    if config.run.dir is not None:
        if config.run.dir.exists() and (not config.run.dir.is_dir() or any(config.run.dir.iterdir())):
            raise ValueError(f"run.dir: expected a new or empty folder, found {config.run.dir} in use")
        return config.run.dir
    names = itertools.chain([config.preset], (f"{config.preset}-{k}" for k in itertools.count(2)))
    return next(path for path in (pathlib.Path("runs") / name for name in names) if not path.exists())


def write_config(config: Config, command: list[str], folder: pathlib.Path) -> None:
    """Makes the folder and its parts, and writes the resolved configuration and the command."""
    for part in ("checkpoints", "samples"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(to_json(config), indent=2) + "\n")
    (folder / "command.txt").write_text(" ".join(command) + "\n")
