"""What a run does beside its updates: one function for each thing, and the list that says when."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from ..._base.defaults import AVERAGE, CURRENT
from ...train import Every, Moment, PowerFunction, TrainState, save_snapshot
from ..settings.config import Config
from .evaluator import note_pipeline
from .interrupt import Interrupted
from .job import Running
from .pictures import draw_sheet, on_this_process
from .progress import telling

MORE: list[Callable[[Running], Every]] = []
"""For actions of your own, which come last: each makes one for a run."""


def list_actions(run: Running) -> list[Every]:
    """The actions of a run in their order; a signal that comes during one of them stops the run after it.

    The report of an update is recorded before anything else is done, and a checkpoint notes what has been evaluated.
    """
    config = run.job.config
    first, end = config.log.profile
    is_last = lambda step: step == config.run.steps
    listed = [
        Every(1, lambda now: record(run, now), late=True),
        Every(0, lambda _: begin_trace(run), also=lambda step: step == first < end),
        Every(0, lambda _: run.tracing.close(), also=lambda step: step == end),
        Every(config.ema.snapshot_every, lambda now: snapshot(run, now)),
        evaluation(run),
        Every(config.run.save_every, run.save, also=is_last),
        Every(config.sample.every, lambda now: is_last(now.step) or draw(run, now)),  # the last comes with `finish`
        *(make(run) for make in MORE),
        Every(0, run.stop, also=run.interruption.told),
    ]
    for each in listed:
        if not isinstance(each, Every):
            raise TypeError(f"actions.MORE: expected functions of a run that return a train.Every, found {each}")
    return [dataclasses.replace(each, action=_stoppable(run, each.action)) for each in listed]


def _stoppable(run: Running, action: Callable[[Moment], object]) -> Callable[[Moment], None]:
    def act(now: Moment) -> None:
        with run.stopping(now):
            action(now)

    return act


def record(run: Running, now: Moment) -> None:
    """Takes in what the update reports."""
    run.step = now.step
    run.recorder.add(now.step, now.report)


def begin_trace(run: Running) -> None:
    """Begins to trace for a profiler, in the process that leads."""
    if run.job.leads:
        run.tracing.enter_context(jax.profiler.trace(str(run.job.folder / "profile")))


def snapshot(run: Running, now: Moment) -> None:
    """Stores the power-function averages."""
    kept = [
        (rule, average)
        for rule, average in zip(run.job.recipe.averages, now.state.averages, strict=True)
        if isinstance(rule, PowerFunction)
    ]
    trees = on_this_process([average for _, average in kept])
    if run.job.leads:
        folder = run.job.folder / "averages"
        folder.mkdir(exist_ok=True)
        save_snapshot(folder, trees, [rule for rule, _ in kept], now.step)


def evaluation(run: Running) -> Every:
    """Samples of the weights in `eval.of` are measured.

    Given up if the run is told to stop, and made up for when it goes on.
    """
    config = run.job.config
    return Every(config.eval.every, lambda now: _evaluate(run, now), also=lambda step: step == config.run.steps)


def weights_of(config: Config, state: TrainState) -> dict[str, Any]:
    """All weights that a state holds, by the names that settings and files have for them."""
    further = dict(zip(config.ema.kept, state.averages, strict=True))
    return {AVERAGE: state.ema, CURRENT: state.model} | further


def _evaluate(run: Running, now: Moment) -> None:
    job, recorder, evaluator = run.job, run.recorder, run.job.evaluator
    if evaluator is None or now.step == recorder.evaluated or run.interruption.told(now.step):
        return
    measuring = telling(f"measuring samples after update {now.step:,}", aloud=job.leads)
    with contextlib.suppress(Interrupted), measuring as found:
        try:
            if job.leads:
                note_pipeline(job.folder, evaluator.pipeline, warn=recorder.warn)
            models = weights_of(job.config, now.state)
            asked = {name: models[name] for name in job.config.eval.of}
            figures, rate = evaluator(asked, now.step, key=job.sample_key, between=run.interruption.check)
        except ValueError as error:
            recorder.warn(f"evaluation after update {now.step:,}: {error}")
        else:
            found(recorder.evaluation(now.step, figures, rate))
        recorder.evaluated = now.step


def draw(run: Running, now: Moment, *, final: bool = False) -> None:
    """Draws samples of average and weights; given up if the run is told to stop."""
    if not run.job.config.sample.n or run.interruption.told(now.step):
        return
    models = on_this_process({AVERAGE: now.state.ema, CURRENT: now.state.model})
    if run.job.leads:
        with contextlib.suppress(Interrupted), telling(f"drawing samples after update {now.step:,}") as found:
            found(", ".join(map(str, draw_sheet(run, models, now.step, final=final))))
