"""The checkpoints of a run while it goes: begun in the background, each with what the rows after it depend on."""

from typing import Any

from ...train import CheckpointError, CheckpointStore, Moment
from .recorder import Recorder

FAILED_SAVES = 3
"""Saves in a row that may fail before the run ends."""


class Saves:
    """Stores a run's states; a failure is told, and forgiven a few times in a row.

    Args:
        store: where they go.
        recorder: what is told, and what travels with them.
        notes: what every checkpoint notes about the run.
        batch: samples per update.
        saved: the step that the run begins at, which needs no checkpoint more.
    """

    def __init__(self, store: CheckpointStore, recorder: Recorder, notes: dict[str, Any], batch: int, *, saved: int):
        self._store, self._recorder, self._notes, self._batch = store, recorder, notes, batch
        self._saved, self._failures, self._under_way = saved, 0, False

    def save(self, now: Moment) -> None:
        """Begins a checkpoint, if there is none of this moment."""
        if self._saved == now.step:
            return
        self._settle()
        self._recorder.flush()
        notes = self._recorder.notes() | self._notes | {"images": now.step * self._batch}
        try:
            self._store.save(now.step, now.state, notes)
        except CheckpointError as error:
            self._failed(error)
        else:
            self._recorder.event("save", step=now.step)
            self._saved, self._under_way = now.step, True

    def save_surely(self, now: Moment) -> None:
        """The checkpoint is whole, or the run has failed."""
        while self._saved != now.step or self._under_way:
            self.save(now)
            self._settle()

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
        self._recorder.warn(f"{error} (save number {self._failures} in a row that failed)")
        if self._failures >= FAILED_SAVES:
            raise error
