"""The loop of one process: updates, rows, checkpoints, grids, and the ways it may end."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh

from ...data import Dataset
from ...train import (
    CheckpointError,
    CheckpointStore,
    NonFiniteError,
    PowerFunction,
    Recipe,
    TrainState,
    fit,
    save_snapshot,
)
from ..assembly.source import open_loader
from ..assembly.systems import System
from ..report import draw_curves
from ..settings.config import Config
from ..settings.data import Mixture
from ..tracking import read_rows, term_columns
from .evaluator import Evaluator, note_pipeline
from .halt import write_report
from .interrupt import Interrupted, Interruption
from .pictures import draw_sheet, on_this_process, record_sheet, report_agreement
from .progress import open_progress
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


class Loop:
    """One process's way from a state to the end of the run.

    Args:
        job: the run's constants.
        store: where checkpoints go.
        recorder: where everything else goes.
        interruption: whether to stop.
        saved: the step of the checkpoint that the run goes on from, or None.
    """

    def __init__(
        self,
        job: Job,
        store: CheckpointStore,
        recorder: Recorder,
        interruption: Interruption,
        *,
        saved: int | None,
    ):
        self._job, self._store, self._recorder, self._interruption = job, store, recorder, interruption
        self._saved, self._failures, self._under_way = saved, 0, False
        self.step = saved or 0

    def to_the_end(self, state: TrainState) -> TrainState:
        """Updates up to the last; those that are to be skipped are passed over."""
        first, end = self._job.config.run.skip_steps
        steps = self._job.config.run.steps
        self._evaluate(state)  # as it was owed when the run was stopped
        progress = open_progress(steps, int(state.step)) if self._job.leads else None
        try:
            state = self._updates(state, min(first, steps) if first < end else steps, progress)
            if first < end and int(state.step) < steps:
                state = _jump(state, max(min(end, steps), int(state.step)))
                state = self._updates(state, steps, progress)
        finally:
            if progress is not None:
                progress.close()
        return state

    def _updates(self, state: TrainState, until: int, progress: Any) -> TrainState:
        job, recorder, config = self._job, self._recorder, self._job.config
        start = int(state.step)
        if start >= until:
            return state
        processes = {"process": jax.process_index(), "processes": jax.process_count()}
        with contextlib.closing(open_loader(job.dataset, config, start=start, **processes)) as loader:
            batches = recorder.throughput.time_batches(loader)
            updates = fit(job.recipe, state, batches, key=job.train_key, steps=until, patience=config.run.patience)
            waiting = None  # the report of the update before, looked at while the next one runs
            try:
                for step in range(start + 1, until + 1):
                    state, report = next(updates) if step > start + 1 else self._first(updates)
                    if waiting is not None:
                        recorder.add(*waiting)
                    waiting = (step, report)
                    told = self._interruption.told(step)
                    if told or self._is_due(step):
                        recorder.add(*waiting)
                        waiting, self.step = None, step
                        self._look_after(state, told=told)
                    if progress is not None:
                        progress.update(step, recorder.loss, recorder.rate)
                next(updates, None)  # looks at the last report
                if waiting is not None:  # where updates that are left out follow
                    recorder.add(*waiting)
            except NonFiniteError as error:
                self._halt(error, loader)
                raise
        return state

    def _first(self, updates: Any) -> Any:
        """The first update, which compiles; waits for it."""
        with self._recorder.throughput.compiling():
            return jax.block_until_ready(next(updates))

    def _is_due(self, step: int) -> bool:
        config = self._job.config
        every = (
            config.log.every,
            config.run.save_every,
            config.ema.snapshot_every,
            config.sample.every,
            config.eval.every,
        )
        at_profile = step in config.log.profile
        return step == config.run.steps or at_profile or any(n and step % n == 0 for n in every)

    def _look_after(self, state: TrainState, *, told: bool) -> None:
        """What is to be done after an update whose report is in: trace, save, snapshot, draw, stop."""
        config, step = self._job.config, self.step
        self._trace()
        if config.ema.snapshot_every and step % config.ema.snapshot_every == 0:
            self._snapshot(state)
        if not told:  # before the save, whose notes say that it is done
            self._evaluate(state)
            told = self._interruption.told()
        if step % config.run.save_every == 0 or step == config.run.steps:
            self._save(state)
        if config.sample.every and step % config.sample.every == 0 and step != config.run.steps and not told:
            with contextlib.suppress(Interrupted):  # the picture is given up, the update is not
                self._draw(state, final=False)
            told = self._interruption.told()
        if told:
            self._save_surely(state)
            raise Interrupted

    def _trace(self) -> None:
        first, end = self._job.config.log.profile
        if first < end and self._job.leads:
            if self.step == first:
                jax.profiler.start_trace(str(self._job.folder / "profile"))
            if self.step == end:
                jax.profiler.stop_trace()

    def _save(self, state: TrainState) -> None:
        """Begins a checkpoint; a failure is told, and forgiven a few times in a row."""
        if self._saved == self.step:
            return
        self._settle()
        self._recorder.flush()
        images = self.step * self._job.config.run.batch
        notes = self._recorder.notes() | self._job.notes | {"images": images}
        try:
            self._store.save(self.step, state, notes)
        except CheckpointError as error:
            self._failed(error)
        else:
            self._recorder.event("save", step=self.step)
            self._saved, self._under_way = self.step, True

    def _settle(self) -> None:
        """Waits for the save that is under way, if one is."""
        if not self._under_way:
            return
        self._under_way = False
        try:
            self._store.wait()
        except CheckpointError as error:
            self._saved = None
            self._failed(error)
        else:
            self._failures = 0

    def _save_surely(self, state: TrainState) -> None:
        """The checkpoint is whole, or the run has failed."""
        while self._saved != self.step or self._under_way:
            self._save(state)
            self._settle()

    def _failed(self, error: CheckpointError) -> None:
        self._failures += 1
        self._recorder.warn(f"{error} (save number {self._failures} in a row that failed)")
        if self._failures >= FAILED_SAVES:
            raise error

    def _snapshot(self, state: TrainState) -> None:
        kept = [
            (rule, average)
            for rule, average in zip(self._job.recipe.averages, state.averages, strict=True)
            if isinstance(rule, PowerFunction)
        ]
        trees = on_this_process([average for _, average in kept])
        if self._job.leads:
            folder = self._job.folder / "averages"
            folder.mkdir(exist_ok=True)
            save_snapshot(folder, trees, [rule for rule, _ in kept], self.step)

    def _draw(self, state: TrainState, *, final: bool) -> None:
        job = self._job
        if not job.config.sample.n:
            return
        models = on_this_process({"ema": state.ema, "model": state.model})
        if job.leads:
            paths = draw_sheet(
                job.config, job.system, models, tuple(job.notes["shape"]), job.sample_key, job.folder,
                step=self.step, interruption=self._interruption, final=final,
            )  # fmt: skip
            record_sheet(self._recorder, self.step, paths)

    def _evaluate(self, state: TrainState) -> None:
        """Measures samples of the average where that is due; given up if the run is told to stop, and made up for."""
        job, recorder = self._job, self._recorder
        last = job.config.run.steps
        if job.evaluator is None or self.step == recorder.evaluated or not job.evaluator.is_due(self.step, last):
            return
        between = self._interruption.check if jax.process_count() == 1 else lambda: None
        with contextlib.suppress(Interrupted):
            try:
                if job.leads:
                    note_pipeline(job.folder, job.evaluator.pipeline, warn=recorder.warn)
                figures, rate = job.evaluator(state.ema, self.step, key=job.sample_key, between=between)
            except ValueError as error:
                recorder.warn(f"evaluation after update {self.step:,}: {error}")
            else:
                recorder.evaluation(self.step, figures, rate)
            recorder.evaluated = self.step

    def finish(self, state: TrainState) -> None:
        """The last checkpoint is whole; then curves, samples, and for a mixture the distance from the truth."""
        self.step = int(state.step)
        self._save_surely(state)
        job = self._job
        if job.leads and job.config.sample.n:
            rows = read_rows(job.folder / "metrics.jsonl")
            draw_curves(rows, term_columns(rows[-1]) or ["loss"], job.folder / "curves.png")
        self._draw(state, final=True)
        self._interruption.check()
        if isinstance(job.config.data, Mixture):
            model = on_this_process(state.ema)
            if job.leads:
                report_agreement(job.config, model, job.sample_key, job.folder)

    def _halt(self, error: NonFiniteError, loader: Any) -> None:
        """Notes the update at fault and writes a report about it."""
        job, step = self._job, error.step
        self.step = step
        self._recorder.event("halt", step=step)
        if jax.process_count() == 1:
            key = jax.random.fold_in(job.train_key, step)
            batch, indices = loader.batch(step), loader.indices(step)
            path = write_report(job.recipe, error.state, batch, indices, key, job.folder, step=step)
            self._recorder.warn(f"a report about the last of these updates is in {path}")


def _jump(state: TrainState, step: int) -> TrainState:
    """The state with another count of updates, nothing else changed."""
    placed = jax.device_put(np.int32(step), state.step.sharding)
    return eqx.tree_at(lambda state: state.step, state, placed)
