"""What a run is made of: its constants, and what its loop and its actions work with; how it saves and stops."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from ...data import Dataset
from ...train import CheckpointError, CheckpointStore, Moment, Recipe
from ..settings.config import Config
from ..settings.method import System
from .evaluator import Evaluator
from .interrupt import Interrupted, Interruption
from .recorder import Recorder

FAILED_SAVES = 3
"""Saves in a row that may fail before the run ends."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run's constants: what to train, on what, where, and under which name it is gone on with."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    folder: pathlib.Path
    resume_command: str
    system: System
    recipe: Recipe
    evaluator: Evaluator | None
    """What measures samples while training, if anything does."""
    notes: dict[str, Any]
    """What every checkpoint notes about the run."""
    train_key: Any
    sample_key: Any

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks for all."""
        return jax.process_index() == 0


class Running:
    """One process's way through a job: what its actions work with, and how its state is saved.

    Args:
        job: the constants.
        store: where checkpoints go.
        recorder: where everything else goes.
        interruption: whether to stop.
        step: updates done; there is nothing to save at this one.
    """

    def __init__(self, job: Job, store: CheckpointStore, recorder: Recorder, interruption: Interruption, step: int):
        self.job, self.recorder, self.interruption = job, recorder, interruption
        self.step = step
        """Updates done, as far as has been looked at."""
        self.tracing = contextlib.ExitStack()
        """Holds the profiler while it is on."""
        self._store, self._saved, self._failures, self._under_way = store, step, 0, False

    def save(self, now: Moment) -> None:
        """Begins a checkpoint, if there is none of this step; a failure is told, and forgiven a few times in a row."""
        if self._saved == now.step:
            return
        self._settle()
        self.recorder.flush()
        notes = self.recorder.notes() | self.job.notes | {"images": now.step * self.job.config.run.batch}
        try:
            self._store.save(now.step, now.state, notes)
        except CheckpointError as error:
            self._failed(error)
        else:
            self.recorder.event("save", step=now.step)
            self._saved, self._under_way = now.step, True

    def _settle(self) -> None:
        """Waits for the save that is under way, if one is."""
        if not self._under_way:
            return
        self._under_way = False
        try:
            self._store.wait()
        except CheckpointError as error:
            self._saved = -1
            self._failed(error)
        else:
            self._failures = 0

    def _failed(self, error: CheckpointError) -> None:
        self._failures += 1
        self.recorder.warn(f"{error} (save number {self._failures} in a row that failed)")
        if self._failures >= FAILED_SAVES:
            raise error

    def save_surely(self, now: Moment) -> None:
        """The checkpoint is whole, or the run has failed."""
        while self._saved != now.step or self._under_way:
            self.save(now)
            self._settle()

    def stop(self, now: Moment) -> None:
        """Ends the run with a checkpoint of this moment."""
        self.save_surely(now)
        raise Interrupted

    @contextlib.contextmanager
    def stopping(self, now: Moment) -> Iterator[None]:
        """Inside, an error that comes of a signal stops the run, if the state of this moment is still there."""
        try:
            yield
        except Exception:
            if now.state is None or now.state.step.is_deleted() or not self.interruption.explains():
                raise
            self.stop(now)
