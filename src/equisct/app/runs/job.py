"""What a run is made of: its constants, and what its loop and its actions work with."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from ...data import Dataset
from ...train import Moment, Recipe
from ..settings.config import Config
from ..settings.method import System
from .evaluator import Evaluator
from .interrupt import Interrupted, Interruption
from .recorder import Recorder
from .saves import Saves


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


@dataclasses.dataclass
class Running:
    """One process's way through a job.

    Args:
        job: the constants.
        saves: where checkpoints go.
        recorder: where everything else goes.
        interruption: whether to stop.
        step: updates done, as far as has been looked at.
        tracing: holds the profiler while it is on.
    """

    job: Job
    saves: Saves
    recorder: Recorder
    interruption: Interruption
    step: int
    tracing: contextlib.ExitStack

    def stop(self, now: Moment) -> None:
        """Ends the run with a checkpoint of this moment."""
        self.saves.save_surely(now)
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
