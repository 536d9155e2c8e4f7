"""The training loop, read in one sitting: a generator, so that a notebook can stop anywhere."""

from collections.abc import Iterable, Iterator

import jax.random as jr

from .._base.check import check_at_least
from .._base.types import Batch, Key
from .state import Recipe, TrainState
from .step import StepReport, train_step


class NonFiniteError(RuntimeError):
    """Several updates in a row had a loss or gradient that was not finite.

    Args:
        message: in words.
        step: the last of these updates.
        state: the training state, with weights that are finite; a `TrainState`.
    """

    def __init__(self, message: str, step: int, state: TrainState):
        self.message, self.step, self.state = message, step, state

    def __str__(self) -> str:
        return self.message


def fit(
    recipe: Recipe,
    state: TrainState,
    batches: Iterable[Batch],
    *,
    key: Key,
    steps: int,
    patience: int = 5,
) -> Iterator[tuple[TrainState, StepReport]]:
    """Yields `(state, report)` after each update until `state.step` is `steps`; update k uses `fold_in(key, k)`.

    The host looks at update k only after update k + 1 has been sent off, so that the device never waits for it. The
    state that was yielded last is donated to the next update: keep nothing of it (copy what you need).

    Args:
        recipe: the run's constants.
        state: where to start.
        batches: at least as many batches as updates, the first that of update `state.step`.
        key: the run's training key.
        steps: value of the step counter to stop at.
        patience: updates in a row that may be skipped for not being finite, >= 1.

    Raises:
        NonFiniteError: when `patience` updates in a row were not finite; the model is that before them.
        ValueError: if `steps` is negative or the batches run out.
    """
    check_at_least("steps", steps, 0)
    check_at_least("patience", patience, 1)
    source = iter(batches)
    previous: StepReport | None = None
    for step in range(int(state.step), steps):
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"batches: expected one per update until step {steps}, found none for step {step}")
        state, report = train_step(recipe, state, batch, jr.fold_in(key, step))
        _check_finite(previous, patience, step - 1, state)
        previous = report
        yield state, report
    _check_finite(previous, patience, steps - 1, state)


def _check_finite(report: StepReport | None, patience: int, step: int, state: TrainState) -> None:
    bad = 0 if report is None else int(report.skipped_in_row)
    if bad >= patience:
        raise NonFiniteError(
            f"loss or gradient: expected finite numbers, found {bad} updates in a row without, "
            f"the last at step {step}; the weights are those before them",
            step,
            state,
        )
