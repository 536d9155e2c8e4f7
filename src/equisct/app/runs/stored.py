"""What a run has left for others: its configuration and weights; and the run that teaches another."""

import dataclasses
import hashlib
import pathlib
import shlex
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np

from ...model import DenoisingModel, ScoreGuidedModel
from ...train import CheckpointError
from ...train.reading import find_checkpoint, load_tree, steps_in
from ...train.weights import named_arrays
from ..settings.config import Config
from .folder import read_config


@dataclasses.dataclass(frozen=True)
class Stored:
    """A run's configuration, and the weights in one of its checkpoints.

    `shape` is that of a sample, `step` the updates done, `model` the current weights and `ema` their average.
    """

    config: Config
    shape: tuple[int, ...]
    step: int
    model: Any
    ema: Any


def load_run(run: pathlib.Path, step: int | None = None) -> Stored:
    """What a run has left in its checkpoint at `step` (None: the newest whole one).

    Raises:
        ValueError: if the folder holds no run, or one without a checkpoint.
        CheckpointError: if there is no such checkpoint, or it is of another model.
    """
    config = read_config(run)
    if not steps_in(run / "checkpoints"):
        raise ValueError(
            f"run: expected a run with a checkpoint, found none yet in {run} (--run.save-every, and at its end); "
            f"go on with it: equisct-train resume {shlex.quote(str(run))}"
        )
    found = find_checkpoint(run / "checkpoints", step)
    shape = shape_of(found.notes)
    like = eqx.filter_eval_shape(config.method.build(config, shape).model, jr.key(0))
    weights = load_tree(found, {"model": like, "ema": like}, partial=True)  # what only training needs is larger
    return Stored(config, shape, found.step, **weights)


def shape_of(notes: dict[str, Any]) -> tuple[int, ...]:
    """The shape of a sample that a run's checkpoint notes."""
    shape = notes.get("shape")
    sizes = shape if isinstance(shape, list) and len(shape) in (1, 3) else [0]
    if not all(type(size) is int and 0 < size < 2**16 for size in sizes):
        raise CheckpointError(f"checkpoint: expected the shape of a sample in its notes, found {shape!r}")
    return tuple(sizes)


def weights_hash(model: Any) -> str:
    """The SHA-256 of a model's arrays, with their names, types and shapes: tells one teacher from another."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_arrays(model).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The averaged weights of the run that teaches another, and their hash."""

    model: Any
    hash: str


def load_teacher(config: Config, shape: tuple[int, ...]) -> Teacher | None:
    """The teacher that a method's settings name; None where they name none.

    Raises:
        ValueError: if it is of another shape, noise or preconditioning, or has no denoiser.
        CheckpointError: if it cannot be read.
    """
    path: pathlib.Path | None = getattr(config.method, "teacher", None)
    if path is None:
        return None
    if not (path / "config.json").is_file():
        raise ValueError(f"method.teacher: expected the folder of a run of equisct-train, found none at {path}")
    stored = load_run(path)
    if stored.shape != shape:
        raise ValueError(f"method.teacher: expected a model of samples {shape}, found one of {stored.shape} in {path}")
    if stored.config.noise != config.noise:
        raise ValueError(f"noise: expected that of the teacher in {path}, {stored.config.noise}, found {config.noise}")
    if stored.config.method.learns_steps or not isinstance(stored.ema, DenoisingModel | ScoreGuidedModel):
        found = type(stored.config.method).__name__
        raise ValueError(f"method.teacher: expected a run that trained a denoiser, found one of method {found}")  # noqa: TRY004  (a setting)
    wanted: str | None = getattr(config.method, "preconditioning", None)
    if wanted is not None:
        found = _preconditioning(stored.ema)
        if found != wanted:
            raise ValueError(f"method.preconditioning: expected the teacher's, {found}, found {wanted}")
    return Teacher(stored.ema, weights_hash(stored.ema))


def _preconditioning(model: Any) -> str:
    """By its name on the command line."""
    kind = type(model.preconditioning).__name__ if isinstance(model, DenoisingModel) else "none, but a score head"
    return {"EDMPreconditioning": "edm", "VPPreconditioning": "vp"}.get(kind, kind)
