"""What a run leaves behind while it goes: rows, statistics per stage, events, pictures, for every tracker at once."""

import contextlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...curriculum import AbstractCurriculum
from ...train import StepReport
from ..settings.codec import to_json, with_paths
from ..settings.config import Config
from ..tracking import (
    Events,
    Guarded,
    JsonLines,
    StageMoments,
    TensorBoard,
    Throughput,
    Tracker,
    WandB,
    Window,
    redact,
    update_from_report,
)
from .host_log import HostLog
from .progress import say


class Recorder:
    """Collects the reports of updates and hands rows to the trackers; processes but the first only write their log.

    Args:
        config: of the run.
        folder: of the run; None records nothing.
        log: of this process.
        curriculum: which stage an update belongs to; None: all to one, without a grid.
        step: updates done so far: rows beyond are dropped.
        notes: what `notes()` gave at that step; empty at step 0.
    """

    def __init__(
        self,
        config: Config,
        folder: pathlib.Path | None,
        log: HostLog,
        curriculum: AbstractCurriculum | None,
        *,
        step: int,
        notes: dict[str, Any],
    ):
        self._config, self._folder, self._log = config, folder, log
        self._points = curriculum.points if curriculum else (0,)
        steps = jnp.arange(config.run.steps)
        self._stage_of = np.asarray(jax.vmap(curriculum.stage)(steps) if curriculum else jnp.zeros_like(steps))
        self._window = Window.from_json(notes["window"]) if notes else Window()
        self._stages = StageMoments.from_json(notes["stages"]) if notes else StageMoments()
        self.evaluated: int = notes.get("evaluated", 0)
        """Updates that the last evaluation came after."""
        self.throughput = Throughput(config.run.batch)
        self.loss: float | None = None
        self.rate = 0.0
        self._metrics, self._speed = JsonLines("metrics.jsonl"), JsonLines("throughput.jsonl")
        self._evaluations = [JsonLines("evaluations.jsonl")] if config.eval.every else []
        self._others: list[Tracker] = []
        self._events: Events | None = None
        if folder is not None:
            self._events = Events(folder / "events.jsonl")
            asked = config.log
            chosen: list[Tracker] = [TensorBoard()] if asked.tensorboard else []
            chosen += [WandB(redact(asked.wandb_project), asked.wandb_mode)] if asked.wandb else []
            self._others = [Guarded(tracker, warn=self.warn) for tracker in chosen]
            shared = to_json(with_paths(config, lambda path: pathlib.Path(path.name)))  # no home folder, no user
            for tracker in self._trackers():
                tracker.start(folder, redact(shared), step)

    def _trackers(self) -> list[Tracker]:
        return [self._metrics, self._speed, *self._evaluations, *self._others] if self._folder is not None else []

    def event(self, kind: str, **fields: Any) -> None:
        """Notes that something happened, with the time."""
        self._log.write(" ".join([kind, *(f"{name}={value}" for name, value in fields.items())]))
        if self._events is not None:
            self._events.append(kind, **fields)

    def warn(self, message: str) -> None:
        """Tells the person, and notes it, if the disk that either goes to is not full."""
        if self._folder is not None:
            say(f"warning: {message}")
        with contextlib.suppress(OSError):
            self.event("warning", message=message)

    def notes(self) -> dict[str, Any]:
        """What must travel with a checkpoint so that the rows after it come out the same."""
        return {"window": self._window.to_json(), "stages": self._stages.to_json(), "evaluated": self.evaluated}

    def add(self, step: int, report: StepReport) -> None:
        """Takes in the report of the update that made `step` updates; waits for it."""
        update = update_from_report(report)
        stage = int(self._stage_of[step - 1])
        self._window.add(update)
        self._stages.add(update, stage=stage, points=self._points[stage])
        self.throughput.update()
        if not update.finite:
            self.warn(f"update {step - 1} had a loss or gradient that is not finite and was skipped")
        if step % self._config.log.every == 0 or step == self._config.run.steps:
            self._write_row(step, stage)

    def _write_row(self, step: int, stage: int) -> None:
        row = self._window.row(step, self._points[stage]) | self._stages.row(stage)
        self._window = Window()
        speed = self.throughput.row(_device_memory_peak())
        self.loss, self.rate = row["loss"], speed["images_per_second"] or 0.0
        loss = "not finite" if self.loss is None else f"{self.loss:.6g}"
        self._log.write(f"step {step}: loss {loss}, {self.rate:,.0f} images/s")
        if self._folder is not None:
            values = {name: value for name, value in row.items() if name != "step"}
            self._metrics.log(step, values)
            self._speed.log(step, speed)
            for tracker in self._others:
                tracker.log(step, values | speed)

    def evaluation(self, step: int, figures: dict[str, float], rate: float) -> str:
        """Takes in what an evaluation has found, and gives it in words."""
        shown = ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
        self._log.write(f"step {step}: {shown}, {rate:,.0f} samples/s measured")
        if self._folder is not None:
            self.event("evaluate", step=step, samples_per_second=round(rate, 1))
            for tracker in (*self._evaluations, *self._others):
                tracker.log(step, figures)
        return shown

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Hands a picture to the trackers."""
        for tracker in self._trackers():
            tracker.image(step, name, picture)

    def flush(self) -> None:
        """Brings the rows to safety; before each checkpoint."""
        for tracker in self._trackers():
            tracker.flush()

    def close(self) -> None:
        """Writes the statistics per stage and ends the trackers."""
        if self._folder is not None:
            self._stages.write_stages(self._folder / "stages.json")
        for tracker in self._trackers():
            tracker.close()


def _device_memory_peak() -> int | None:
    statistics = jax.local_devices()[0].memory_stats()  # None on a CPU
    return statistics.get("peak_bytes_in_use") if statistics else None
