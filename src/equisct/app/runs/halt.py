"""When updates stay not finite: a report of the update at fault, and no third try at the same place."""

import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..._base.tree import global_norm, path_name
from ...data import GrainLoader, Loader
from ...objectives.terms import SplitObjective
from ...train import NonFiniteError, TrainState
from ...train.gradient import batch_gradient
from ..settings.config import Config
from ..tracking import read_rows
from .folder import write_json
from .job import Job, Running

TRIES = 2
"""Halts at one update after which the run is not started again without skipping it."""


def check_halts(config: Config, folder: pathlib.Path) -> None:
    """Raises `ValueError` if the run has halted at one update before, again and again, and does not skip it now."""
    path = folder / "events.jsonl"
    rows = read_rows(path) if path.is_file() else []
    halts = [row["step"] for row in rows if row.get("kind") == "halt"]
    first, end = config.run.skip_steps
    for step in sorted(set(halts)):
        if halts.count(step) >= TRIES and not first <= step < end:
            raise ValueError(
                f"run.skip_steps: expected a range with update {step}, at which this run has halted "
                f"{halts.count(step)} times (see nan_report_{step:08d}.json), found {first} {end}; "
                f"for example --run.skip-steps {step} {step + 1}"
            )


def note_halt(run: Running, error: NonFiniteError, loader: Loader | GrainLoader) -> None:
    """Notes the update at fault; one process alone writes `nan_report_NNNNNNNN.json`: its samples and levels, norms."""
    run.recorder.event("halt", step=error.step)
    if jax.process_count() == 1:
        path = run.job.folder / f"nan_report_{error.step:08d}.json"
        write_json(path, _report(run.job, error.step, error.state, loader))
        run.recorder.warn(f"a report about the last of these updates is in {path}")
    rate, again = run.job.config.optim.lr, run.job.resume_command
    error.message = (
        f"loss or gradient: expected finite numbers, found {int(error.state.skipped_in_row)} updates in a row without, "
        f"the last at step {error.step}; lower --optim.lr, {rate:g} here: "
        f"{again} --optim.lr {rate / 2:g} --run.allow-change optim.lr"
    )


def _report(job: Job, step: int, state: TrainState, loader: Loader | GrainLoader) -> dict[str, Any]:
    """About one update, whose weights are those before and after it."""
    batch, indices = loader.batch(step), loader.indices(step)
    arrays, key = jax.tree.map(jnp.asarray, batch), jax.random.fold_in(job.train_key, step)
    recipe, objective = job.recipe, job.recipe.objective
    found = eqx.filter_jit(batch_gradient)(recipe, state.objective_model, arrays, jnp.int32(step), key=key)
    levels: dict[str, Any] = {}
    if isinstance(objective, SplitObjective):
        draws = objective.draw(arrays, step, key=key)
        losses = eqx.filter_jit(objective.sample_losses)(state.objective_model, draws)
        levels = {path_name(path): _plain(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(losses)}
    return {
        "step": step,
        "sample_indices": _plain(indices),
        "samples_not_finite": _plain(np.flatnonzero(np.any([_not_finite(leaf) for leaf in jax.tree.leaves(batch)], 0))),
        "samples": levels,
        "loss": _plain(found.loss),
        "gradient_norm_per_block": _per_block(found.gradient),
        "weight_norm_per_block": _per_block(state.model),
    }


def _not_finite(leaf: np.ndarray) -> Any:
    return ~np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))


def _per_block(tree: Any, depth: int = 4) -> dict[str, Any]:
    """The norm of the arrays below each path of `depth` names."""
    blocks: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_inexact_array)):
        blocks.setdefault(path_name(path[:depth]), []).append(leaf)
    return {name: _plain(global_norm(leaves)) for name, leaves in blocks.items()}


def _plain(value: Any) -> Any:
    """Numbers and lists for JSON; what is not finite by its name."""
    value = np.asarray(value).tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, int) or np.isfinite(value) else str(value)
