"""The training loop, read in one sitting: a generator with a list of actions, so that a notebook can stop anywhere."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import jax.random as jr
from jaxtyping import PyTree

from .._base.check import check_at_least
from .._base.types import Batch, Key
from .state import Recipe, TrainState
from .step import StepReport, train_step


class NonFiniteError(RuntimeError):
    """Several updates in a row had a loss or gradient that was not finite.

    Args:
        message: in words.
        step: the last of these updates.
        state: the `TrainState` right after that update, with the weights, averages and optimiser from before the first
            of them; it is not used up.
    """

    def __init__(self, message: str, step: int, state: TrainState):
        self.message, self.step, self.state = message, step, state

    def __str__(self) -> str:
        return self.message


@dataclasses.dataclass(frozen=True)
class Moment:
    """What an action gets to see: `step` updates are done, this is the state after them and what the last one reports.

    The state is donated to the next update: copy or store what is to stay. A late action gets None in its place.
    """

    step: int
    state: PyTree
    report: PyTree = None


@dataclasses.dataclass(frozen=True)
class Every:
    """An action of `fit`, done after each `n`-th update.

    Args:
        n: done after update numbers n, 2 n, ... of the whole run, counted from 1; 0: only where `also` says so.
        action: called with the `Moment`; what it raises ends the loop.
        also: says whether it is done after so many updates too.
        late: done while the next update runs, so that the device waits for nothing; for what needs no state.
    """

    n: int
    action: Callable[[Moment], object]
    _: dataclasses.KW_ONLY
    also: Callable[[int], bool] | None = None
    late: bool = False

    def __post_init__(self) -> None:
        check_at_least("n", self.n, 0)

    def is_due(self, step: int) -> bool:
        """Whether it is done after so many updates."""
        return (self.n > 0 and step % self.n == 0) or (self.also is not None and self.also(step))


@runtime_checkable
class Loads(Protocol):
    """A loader: knows the batches from any update on, as `data.Loader` does."""

    def since(self, step: int) -> Iterator[PyTree]:
        """The batches of update `step`, of the next one, and so on."""
        ...


def fit(
    recipe: Recipe,
    state: TrainState,
    batches: Loads | Iterable[Batch],
    *,
    key: Key,
    steps: int,
    patience: int = 5,
    actions: Sequence[Every] = (),
) -> Iterator[tuple[TrainState, StepReport]]:
    """Yields `(state, report)` after each update until `state.step` is `steps`; update k uses `fold_in(key, k)`.

    The host looks at update k only after update k + 1 has been sent off, so that the device never waits for it; at once
    after the first, where an action needs the state, and where update k may be one too many that is not finite. The
    state that was yielded last is donated to the next update: keep nothing of it (copy what you need).

    Args:
        recipe: the run's constants.
        state: where to start.
        batches: a loader, which is asked for those from update `state.step` on; or just batches, the first that of
            update `state.step`, at least as many as updates.
        key: the run's training key.
        steps: value of the step counter to stop at.
        patience: updates in a row that may be skipped for not being finite, >= 1.
        actions: done in their order before the update is yielded; the late ones first.

    Raises:
        NonFiniteError: when `patience` updates in a row were not finite; before any action that is not late.
        ValueError: if `steps` is negative or the batches run out.
    """
    check_at_least("steps", steps, 0)
    check_at_least("patience", patience, 1)
    start, bad = int(state.step), 0  # in a row, as the report last looked at has it
    source = batches.since(start) if isinstance(batches, Loads) else iter(batches)
    waiting: Moment | None = None

    def look() -> None:
        """At the report that waits, if one does."""
        nonlocal waiting, bad
        if waiting is None:
            return
        now, waiting = waiting, None
        bad = int(now.report.skipped_in_row)
        for each in actions:
            if each.late and each.is_due(now.step):
                each.action(now)
        if bad >= patience:
            raise NonFiniteError(
                f"loss or gradient: expected finite numbers, found {bad} updates in a row without, "
                f"the last at step {now.step - 1}; the weights are those before them. Lower the learning rate, or look "
                f"for samples at fault in these batches",
                now.step - 1,
                state,
            )

    for step in range(start + 1, steps + 1):
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"batches: expected one per update until step {steps}, found none for step {step - 1}")
        state, report = train_step(recipe, state, batch, jr.fold_in(key, step - 1))
        look()  # one update late
        waiting = Moment(step, None, report)
        if step == start + 1 or bad + 1 >= patience:
            look()
        for each in actions:
            if not each.late and each.is_due(step):
                look()
                each.action(Moment(step, state, report))
        yield state, report
    look()
