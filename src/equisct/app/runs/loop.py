"""The loop of one process: updates with their actions, updates left out, and the last things after them."""

import contextlib

import equinox as eqx
import jax
import numpy as np

from ...train import Every, Moment, NonFiniteError, TrainState, fit
from ..parts.data import open_loader
from ..report import draw_curves
from ..settings.data import Mixture
from ..tracking import read_rows, term_columns
from .actions import begin_trace, draw, evaluation, list_actions
from .halt import note_halt
from .job import Running
from .pictures import on_this_process, report_agreement
from .progress import open_progress, telling


def to_the_end(run: Running, state: TrainState) -> TrainState:
    """Updates up to the last; those that are to be skipped are passed over.

    Raises:
        Interrupted: the process was told to stop; the state is saved.
        NonFiniteError: too many updates in a row were not finite.
        CheckpointError: checkpoints cannot be written.
    """
    config, start = run.job.config, Moment(run.step, state)
    (first, end), steps, traced = config.run.skip_steps, config.run.steps, config.log.profile
    with run.stopping(start), contextlib.ExitStack() as ending:
        actions = list_actions(run)
        if run.job.leads:
            progress = ending.enter_context(contextlib.closing(open_progress(steps, start.step)))
            show = lambda now: progress.update(now.step, run.recorder.loss, run.recorder.rate)
            actions.append(Every(1, show, late=True))
        if (owed := evaluation(run)).is_due(start.step):  # when the run was stopped
            owed.action(start)
        if traced[0] <= start.step < traced[1]:
            begin_trace(run)
        if first < end:
            state = _updates(run, state, min(first, steps), actions)
            state = _jump(state, max(min(end, steps), int(state.step)))
        return _updates(run, state, steps, actions)


def _updates(run: Running, state: TrainState, until: int, actions: list[Every]) -> TrainState:
    job, start = run.job, int(state.step)
    if start >= until:
        return state
    processes = {"process": jax.process_index(), "processes": jax.process_count()}
    with (
        contextlib.closing(open_loader(job.dataset, job.config, start=start, **processes)) as loader,
        contextlib.ExitStack() as compiling,
    ):
        compiling.enter_context(run.recorder.throughput.compiling())
        compiled = Every(1, lambda now: compiling.close(), late=True)  # by the first update; nothing at later ones
        batches = run.recorder.throughput.time_batches(loader)
        given = {"key": job.train_key, "patience": job.config.run.patience, "actions": [compiled, *actions]}
        updates = fit(job.recipe, state, batches, steps=until, **given)
        try:
            for state, _ in updates:  # noqa: B007  (the last one is returned)
                pass
        except NonFiniteError as error:
            note_halt(run, error, loader)
            raise
    return state


def _jump(state: TrainState, step: int) -> TrainState:
    """The state with another count of updates, nothing else changed."""
    placed = jax.device_put(np.int32(step), state.step.sharding)
    return eqx.tree_at(lambda state: state.step, state, placed)


def finish(run: Running, state: TrainState) -> None:
    """The last checkpoint is whole; then curves, samples, and for a mixture the distance from the truth."""
    job, now = run.job, Moment(int(state.step), state)
    run.step = now.step
    run.save_surely(now)
    with run.stopping(now):
        if job.leads and job.config.sample.n:
            rows = read_rows(job.folder / "metrics.jsonl")
            draw_curves(rows, term_columns(rows[-1]) or ["loss"], job.folder / "curves.png")
        draw(run, now, final=True)
        run.interruption.check()
        if isinstance(job.config.data, Mixture):
            model = on_this_process(state.ema)
            if job.leads:
                with telling("measuring the distance from the truth"):
                    report_agreement(job.config, model, job.sample_key, job.folder)
