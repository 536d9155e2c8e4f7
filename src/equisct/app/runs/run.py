"""A training run from its configuration to its folder: started or gone on with, and how it ended noted."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
from jax.sharding import Mesh

from ...data import Dataset, PairSet
from ...train import CheckpointError, CheckpointStore, TrainState, init_state
from ...train.placement import place
from ...train.reading import check_fits
from ...train.state import state_by_shape
from ..parts.recipe import build_recipe
from ..settings.config import Config
from ..settings.method import System
from ..tracking import redact
from .evaluator import Evaluator
from .exits import STOPPED, code_of
from .folder import note_command, write_config, write_json, write_status
from .host_log import HostLog
from .interrupt import Interrupted, Interruption, listening
from .job import Job, Running
from .loop import finish, to_the_end
from .progress import say
from .provenance import check_same_data, describe_environment, differences, other_samples
from .recorder import Recorder
from .stored import Teacher, load_teacher


def try_to_build(config: Config, dataset: Dataset, mesh: Mesh, folder: pathlib.Path, *, data: dict[str, Any]) -> None:
    """Builds all but the numbers, so that settings that do not fit together fail before anything is written.

    `data`, the `fingerprint` of the data set, is held against the run's newest checkpoint; so are settings that a run
    may change only where it is allowed.

    Raises:
        ValueError: names the setting.
    """
    check_same_data(config, folder, data)
    system, teacher = _system(config, dataset)
    recipe = build_recipe(config, system, teacher.model if teacher else None, dataset, mesh)
    system.samplers(0)  # not only when the first picture is drawn
    if config.eval.every:
        Evaluator(config, system, dataset, mesh)
    state = eqx.filter_eval_shape(lambda key: init_state(recipe, _first_model(system, teacher, key)), jr.key(0))
    if config.run.allow_change:
        try:
            check_fits(folder / "checkpoints", state)
        except CheckpointError as error:
            raise ValueError(
                f"run.allow_change: expected changes that the run's checkpoint fits, found: {error}"
            ) from None


def _system(config: Config, dataset: Dataset) -> tuple[System, Teacher | None]:
    """The method's system and its teacher, which must be that of the pairs where the data are pairs."""
    shape = dataset.shape
    system, teacher = config.method.build(config, shape), load_teacher(config, shape)
    if teacher is not None and isinstance(dataset, PairSet) and dataset.teacher != teacher.hash:
        raise ValueError(
            f"data.path: expected pairs made by the weights of method.teacher, {teacher.hash[:12]}, "
            f"found those of {dataset.teacher[:12]}"
        )
    return system, teacher


def _first_model(system: System, teacher: Teacher | None, key: Any) -> Any:
    """The model that training begins with."""
    return system.start(system.model(key), teacher.model if teacher else None)


def train(
    config: Config,
    dataset: Dataset,
    mesh: Mesh,
    folder: pathlib.Path,
    *,
    command: list[str],
    resume_command: str,
    data: dict[str, Any],
) -> None:
    """Trains from the newest checkpoint in `folder`, or from the start, and fills it.

    `data` is the `fingerprint` of the data set.

    Raises:
        Interrupted: the process was told to stop; the state is saved.
        NonFiniteError: too many updates in a row were not finite.
        CheckpointError: checkpoints cannot be read or written.
    """
    init_key, train_key, sample_key = jr.split(jr.key(config.run.seed), 3)
    system, teacher = _system(config, dataset)
    if teacher is not None:
        teacher = dataclasses.replace(teacher, model=place(teacher.model, mesh))
    recipe = build_recipe(config, system, teacher.model if teacher else None, dataset, mesh)
    taught, environment = teacher.hash if teacher else "", redact(describe_environment(mesh))
    notes = {"shape": list(dataset.shape), "teacher": taught, "data": data, "environment": environment}
    evaluator = Evaluator(config, system, dataset, mesh) if config.eval.every else None
    job = Job(config, dataset, mesh, folder, resume_command, system, recipe, evaluator, notes, train_key, sample_key)
    with listening() as interruption:
        if job.leads:
            write_config(config, folder)
            note_command(folder, command)
            write_json(folder / "environment.json", environment)
            write_status(folder, "running", step=0, command=resume_command)
        _run(job, lambda: _first_model(system, teacher, init_key), interruption)


def _run(job: Job, first_model: Callable[[], Any], interruption: Interruption) -> None:
    """The run between its first status and its last; every end but a crash is noted."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax's errors come as one message of ours
    left_aside: list[str] = []
    asked = job.config.run
    store = CheckpointStore(
        job.folder / "checkpoints", keep=asked.keep, keep_every=asked.keep_every, warn=left_aside.append
    )
    log = HostLog(job.folder, jax.process_index())
    with contextlib.ExitStack() as ending:
        ending.callback(_close, store)
        ending.callback(log.close)
        status, code, run = "failed", 1, None
        try:
            step, state, notes = _begin(job, store, first_model)
            recorder = _recorder(job, log, step, notes, left_aside)
            run = Running(job, store, recorder, interruption, step)
            ending.callback(run.tracing.close)
            finish(run, to_the_end(run, state))
            status, code = "finished", 0
        except Interrupted:
            status, code = "preempted", STOPPED
            raise
        except Exception as error:
            code = code_of(error) or code
            raise
        finally:
            with contextlib.suppress(OSError):  # where the disk is full, the error that says so is on its way
                if run is not None:
                    run.recorder.event("end", status=status, step=run.step)
                    run.recorder.close()
            with contextlib.suppress(OSError):
                if job.leads:
                    command = "" if status == "finished" else job.resume_command
                    step = max(store.steps(), default=0) if run is None else run.step
                    write_status(job.folder, status, step=step, code=code, command=command)


def _begin(job: Job, store: CheckpointStore, first_model: Callable[[], Any]) -> tuple[int, TrainState, dict[str, Any]]:
    """Step, state and notes of the newest checkpoint, or of the start, of which nothing else is ever in memory."""
    like = state_by_shape(job.recipe, first_model, mesh=job.mesh)
    found = store.restore(like)
    step, state, notes = found or (0, init_state(job.recipe, first_model(), mesh=job.mesh), {})
    if step and notes.get("teacher", "") != job.notes["teacher"]:
        raise CheckpointError(
            f"method.teacher: expected the teacher that this run began with, {notes.get('teacher', '')[:12]}, "
            f"found {job.notes['teacher'][:12]}"
        )
    return step, state, notes


def _recorder(job: Job, log: HostLog, step: int, notes: dict[str, Any], left_aside: list[str]) -> Recorder:
    """The recorder of a run that begins at `step`, which is noted and told."""
    folder = job.folder if job.leads else None
    recorder = Recorder(job.config, folder, log, job.system.curriculum, step=step, notes=notes)
    for message in left_aside:
        recorder.warn(message)
    recorder.event("start", step=step, devices=job.mesh.size, processes=jax.process_count())
    if step and job.leads:
        say(f"resuming from step {step} of {job.config.run.steps}")
    if others := other_samples(notes, job.notes["data"]):
        recorder.warn(f"after update {step} the run learns from other samples: {others}")
    if others := differences(notes.get("environment"), job.notes["environment"]):
        recorder.warn(f"after update {step} the bits differ from those of an uninterrupted run, because of {others}")
    return recorder


def _close(store: CheckpointStore) -> None:
    with contextlib.suppress(CheckpointError):  # the loop has told already
        store.close()
