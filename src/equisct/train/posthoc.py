"""Averages of any length after the run, from stored snapshots of a few (Karras et al. 2024, EDM2, section 3.2).

An average is a weighted sum of the weights after each update. So is every combination of stored averages; the one
whose profile comes nearest to the profile wanted stands in for it. A snapshot is a safetensors file with one group per
average, `0/`, `1/` and so on; its metadata name the averages as JSON, and nothing in it can run code.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, PyTree

from .._base.check import check_at_least
from .._base.files import as_path
from .averages import AbstractAverage, ConstantDecay, PowerFunction
from .weights import CheckpointError, load_weights, opened, write_arrays

T = TypeVar("T")

BINS = 16_384
"""Longer runs are fitted with consecutive updates taken together in this many bins; shorter ones update by update."""

RESOLUTION = 1e-6
"""Directions of the fit whose singular value is below this part of the largest are left alone: stored float32 weights
do not resolve them."""

AVERAGES = {cls.__name__: cls for cls in (ConstantDecay, PowerFunction)}
FILE_NAME = re.compile(r"step_\d+\.safetensors")


# --- profiles ---


def profile(average: AbstractAverage, steps: int) -> Float64[np.ndarray, " steps"]:
    """The weight of each update in the average after `steps` >= 1 updates; they sum to 1."""
    check_at_least("steps", steps, 1)
    return np.diff(average.cumulative(np.arange(steps + 1), steps))


def mean_age(average: AbstractAverage, steps: int) -> float:
    """How far back the average after `steps` >= 1 updates reaches, in updates: `sum_i w_i (steps - i)`.

    Of `ConstantDecay` in a long run that is `1 / (1 - decay)`, about; of `PowerFunction` `steps / (exponent + 2)`.
    """
    check_at_least("steps", steps, 1)
    return float(average.cumulative(np.arange(1, steps), steps).sum())


def coefficients(
    stored: Sequence[tuple[AbstractAverage, int]], target: AbstractAverage, steps: int
) -> Float64[np.ndarray, " stored"]:
    """The combination of stored averages nearest to `target` after `steps` updates: least squares over the profiles.

    The coefficients sum to 1, a constraint of the fit, so that what all snapshots have in common is kept exactly. EDM2
    (Karras et al. 2024) solves without the constraint and divides the result by its sum; where the residual is small
    both agree.

    Args:
        stored: each stored average with the number of updates after which it was stored.
        target: the average wanted.
        steps: the number of updates after which it is wanted.

    Raises:
        ValueError: if nothing is stored, or something later than `steps`.
    """
    _check_stored(stored, steps)
    ends = [end for _, end in stored]
    edges = np.unique(np.concatenate([np.linspace(0, steps, min(steps, BINS) + 1).astype(int), ends]))
    per_bin = 1 / np.sqrt(np.diff(edges))  # the square of a bin's mass over its width: the integral of the square
    columns = [per_bin * np.diff(average.cumulative(edges, end)) for average, end in stored]
    wanted = per_bin * np.diff(target.cumulative(edges, steps))
    last = columns.pop()
    if not columns:
        return np.ones(1)
    found = np.linalg.lstsq(np.stack(columns, 1) - last[:, None], wanted - last, rcond=RESOLUTION)[0]
    return np.append(found, 1 - found.sum())


def residual(
    stored: Sequence[tuple[AbstractAverage, int]],
    coefficients: Float64[np.ndarray, " stored"],
    target: AbstractAverage,
    steps: int,
) -> float:
    """How far the combination's profile is from the target's, update by update: L2 norm over that of the target.

    Args:
        stored: as given to `coefficients`.
        coefficients: what it returned.
        target: the average wanted.
        steps: the number of updates after which it is wanted.

    Raises:
        ValueError: as `coefficients`.
    """
    _check_stored(stored, steps)
    wanted = profile(target, steps)
    difference = wanted.copy()
    for (average, end), coefficient in zip(stored, coefficients, strict=True):
        difference[:end] -= coefficient * profile(average, end)
    return float(np.linalg.norm(difference) / np.linalg.norm(wanted))


def _check_stored(stored: Sequence[tuple[AbstractAverage, int]], steps: int) -> None:
    check_at_least("steps", steps, 1)
    if not stored:
        raise ValueError("stored: expected at least one average, found none")
    ends = [end for _, end in stored]
    check_at_least("stored", min(ends), 1)
    if max(ends) > steps:
        raise ValueError(
            f"stored: expected averages after at most steps = {steps} updates, found one after {max(ends)}"
        )


def combine(trees: Iterable[T], coefficients: Float64[np.ndarray, " trees"]) -> T:
    """The weighted sum of the floating-point arrays of several trees; every other leaf is that of the last.

    Accumulated in float64 on the host, then rounded once to each array's own type. The trees may come from a
    generator: one is held at a time.

    Raises:
        ValueError: if there are none, or not as many as coefficients.
    """
    total: Any = None
    latest: T | None = None
    found = 0
    for found, tree in enumerate(trees, 1):
        if found > len(coefficients):
            break
        latest, factor = tree, coefficients[found - 1]
        arrays = eqx.filter(tree, eqx.is_inexact_array)
        term = jax.tree.map(lambda leaf: factor * np.asarray(leaf, np.float64), arrays)  # noqa: B023  (called at once)
        total = term if total is None else jax.tree.map(np.add, total, term)
    if latest is None or found != len(coefficients):
        raise ValueError(f"trees: expected one per coefficient and at least one, found {found} for {len(coefficients)}")
    summed = jax.tree.map(lambda a, leaf: jnp.asarray(a, leaf.dtype), total, eqx.filter(latest, eqx.is_inexact_array))
    return eqx.combine(summed, latest)


# --- snapshots ---


class Snapshot(eqx.Module):
    """A file of averages: where it is, the updates done when it was stored, and the rule of each of its groups."""

    path: pathlib.Path
    step: int
    averages: tuple[AbstractAverage, ...]


def save_snapshot(
    folder: str | os.PathLike[str], trees: Sequence[PyTree], averages: Sequence[AbstractAverage], step: int
) -> pathlib.Path:
    """Writes several averages to `step_NNNNNNNN.safetensors` in a folder, atomically; returns the file's path.

    Args:
        folder: made if it does not exist; a snapshot of the same step in it is replaced.
        trees: the averages themselves.
        averages: their rules, in the same order: `ConstantDecay` or `PowerFunction`.
        step: updates done, >= 1.

    Raises:
        ValueError: for another step or rule, or unless there is one rule per tree and at least one.
    """
    check_at_least("step", step, 1)
    if not trees or len(trees) != len(averages):
        raise ValueError(f"averages: expected one per tree and at least one, found {len(averages)} for {len(trees)}")
    rules = json.dumps([_average_to_json(average) for average in averages])
    path = as_path(folder) / f"step_{step:08d}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, list(trees), {"step": str(step), "averages": rules})
    return path


def list_snapshots(folder: str | os.PathLike[str]) -> list[Snapshot]:
    """The snapshots of a folder in the order of their steps; reads no weights. Files of other names are not looked at.

    Raises:
        CheckpointError: if a file is damaged, no snapshot, or of an unknown average.
    """
    paths = [path for path in as_path(folder).glob("*") if FILE_NAME.fullmatch(path.name)]
    return sorted((_read_snapshot(path) for path in paths), key=lambda snapshot: snapshot.step)


def reconstruct(
    folder: str | os.PathLike[str], like: T, target: AbstractAverage, steps: int | None = None
) -> tuple[T, float]:
    """An average that was never kept, from the snapshots of a folder up to `steps`; and its `residual`.

    Args:
        folder: where `save_snapshot` wrote.
        like: a model of the same structure, or its shapes from `eqx.filter_eval_shape`.
        target: the average wanted.
        steps: the number of updates after which it is wanted; None is the newest snapshot's. Best the step of a
            snapshot: of the updates after the last one used, nothing is known.

    Raises:
        CheckpointError: if there is no snapshot up to `steps`, `steps` is beyond the newest, or a file is damaged or
            of another model (names the first array that differs).
    """
    snapshots = list_snapshots(folder)
    if not snapshots:
        raise CheckpointError(f"snapshots: expected files step_NNNNNNNN.safetensors in {folder}, found none")
    first, newest = snapshots[0].step, snapshots[-1].step
    steps = newest if steps is None else steps
    if not first <= steps <= newest:
        raise CheckpointError(f"steps: expected {first} to {newest}, as the snapshots in {folder} go, found {steps}")
    used = [(snapshot, group) for snapshot in snapshots if snapshot.step <= steps
            for group in range(len(snapshot.averages))]  # fmt: skip
    stored = [(snapshot.averages[group], snapshot.step) for snapshot, group in used]
    found = coefficients(stored, target, steps)
    trees = (load_weights(snapshot.path, like, group=str(group)) for snapshot, group in used)
    return combine(trees, found), residual(stored, found, target, steps)


def _average_to_json(average: AbstractAverage) -> dict[str, Any]:
    for kind, cls in AVERAGES.items():
        if isinstance(average, cls):
            return {"kind": kind} | {name: float(value) for name, value in vars(average).items()}
    raise ValueError(f"averages: expected {' or '.join(AVERAGES)}, found {type(average).__name__}")


def _average_from_json(found: Any) -> AbstractAverage:
    settings = dict(found)
    kind = settings.pop("kind")
    if kind not in AVERAGES:
        raise ValueError(f"averages: expected {' or '.join(AVERAGES)}, found {kind!r}")
    return AVERAGES[kind](**settings)


def _read_snapshot(path: pathlib.Path) -> Snapshot:
    with opened(path, "snapshot") as file:
        metadata = file.metadata() or {}
    if not {"step", "averages"} <= set(metadata):
        raise CheckpointError(f"snapshot {path}: expected a file of save_snapshot, found one without its averages")
    try:
        step = int(metadata["step"])
        averages = tuple(_average_from_json(found) for found in json.loads(metadata["averages"]))
        if not averages or path.name != f"step_{step:08d}.safetensors":
            raise ValueError(f"step {step} with {len(averages)} averages")
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"snapshot {path}: expected step and averages in its metadata, found {error}") from error
    return Snapshot(path, step, averages)
