"""How fine the grid is at each step of training: a map from step to stage, in integers only.

Notation: `step` counts optimiser updates; a `stage` is an index into `points`, the tuple of grid sizes;
`points = intervals + 1`. Settings count intervals where the papers do (s0, s1), and a comment says so.
"""

import abc
import itertools
import math

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from ._base.check import check_at_least, check_fraction, check_positive
from ._base.defaults import CT_DECAY, CT_FIRST, CT_LAST, FIRST_INTERVALS, LAST_INTERVALS
from ._base.types import Scalar, Step


class AbstractCurriculum(eqx.Module):
    """A map from step to stage that never goes back. `points` holds the grid size of each stage; static."""

    points: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def stage(self, step: Step) -> Int[Array, ""]:
        """The stage at `step`, a traced or plain integer; the last stage lasts for ever."""


def _one_stage(points: int | tuple[int]) -> tuple[int]:
    return points if isinstance(points, tuple) else (points,)


class Constant(AbstractCurriculum):
    """One grid for the whole training.

    Args:
        points: number of grid points, >= 2.
    """

    points: tuple[int] = eqx.field(static=True, converter=_one_stage)

    def __check_init__(self) -> None:
        check_at_least("points", self.points[0], 2)

    def stage(self, step: Step) -> Int[Array, ""]:
        """Always 0."""
        return jnp.zeros_like(jnp.asarray(step))


class Doubling(AbstractCurriculum):
    """The exponential curriculum of iCT (Song & Dhariwal 2024): `min(first 2^floor(step / period), last) + 1` points.

    Args:
        first: intervals of the first stage (s0).
        last: cap of the intervals, reached by the last stage (s1).
        period: steps between doublings (K').
    """

    first: int = eqx.field(default=FIRST_INTERVALS, static=True)
    last: int = eqx.field(default=LAST_INTERVALS, static=True)
    period: int = eqx.field(static=True, kw_only=True)
    points: tuple[int, ...] = eqx.field(init=False, static=True)

    def __post_init__(self) -> None:
        check_at_least("first", self.first, 1)
        check_at_least("last", self.last, self.first)
        check_at_least("period", self.period, 1)
        below = itertools.takewhile(lambda n: n < self.last, (self.first * 2**i for i in itertools.count()))
        self.points = (*(n + 1 for n in below), self.last + 1)

    @staticmethod
    def from_total(total_steps: int, first: int = FIRST_INTERVALS, last: int = LAST_INTERVALS) -> "Doubling":
        """The curriculum whose period is iCT's `K' = floor(K / (log2(floor(last / first)) + 1))` for K `total_steps`.

        Raises:
            ValueError: unless 1 <= `first` <= `last` and K' >= 1.
        """
        check_at_least("first", first, 1)
        check_at_least("last", last, first)
        stages = math.log2(last // first) + 1
        check_at_least("total_steps", total_steps, stages)
        return Doubling(first, last, period=math.floor(total_steps / stages))

    def stage(self, step: Step) -> Int[Array, ""]:
        """`floor(step / period)`, at most the last stage."""
        return jnp.clip(jnp.asarray(step) // self.period, 0, len(self.points) - 1)


class Delayed(AbstractCurriculum):
    """A curriculum whose clock starts late: its first stage until update `delay`, then as from its own beginning.

    Args:
        base: the curriculum.
        delay: updates, >= 0.
    """

    base: AbstractCurriculum
    delay: int = eqx.field(static=True)
    points: tuple[int, ...] = eqx.field(init=False, static=True)

    def __post_init__(self) -> None:
        check_at_least("delay", self.delay, 0)
        self.points = self.base.points

    def stage(self, step: Step) -> Int[Array, ""]:
        """The base's stage `delay` updates before."""
        return self.base.stage(jnp.maximum(jnp.asarray(step) - self.delay, 0))


class SquareRoot(AbstractCurriculum):
    """The curriculum of the first consistency training (Song et al. 2023): the intervals grow like a square root.

    `max(ceil(sqrt(k / K ((s1 + 1)^2 - s0^2) + s0^2) - 1), 1)` intervals at step k, in exact integer arithmetic; each
    number of intervals that occurs is a stage. It starts with `first` points and ends with `last` intervals.

    Args:
        first: s0, >= 1.
        last: s1, the intervals from step `total_steps` on.
        total_steps: K.
        initial_decay: mu_0, the teacher's averaging rate at `first` intervals; in (0, 1).
    """

    first: int = eqx.field(default=CT_FIRST, static=True)
    last: int = eqx.field(default=CT_LAST, static=True)
    total_steps: int = eqx.field(static=True, kw_only=True)
    initial_decay: float = CT_DECAY
    points: tuple[int, ...] = eqx.field(init=False, static=True)
    starts: tuple[int, ...] = eqx.field(init=False, static=True)

    def __post_init__(self) -> None:
        check_at_least("first", self.first, 1)
        check_at_least("last", self.last, self.first)
        check_at_least("total_steps", self.total_steps, 1)
        check_positive("initial_decay", self.initial_decay)
        check_fraction("initial_decay", self.initial_decay)
        slope = (self.last + 1) ** 2 - self.first**2
        least = max(self.first - 1, 1)
        intervals_at = {0: least}  # first step -> its intervals; a number of intervals that no step has is overwritten
        for n in range(least + 1, self.last + 1):  # n intervals from the first k with k slope > K (n^2 - s0^2)
            intervals_at[self.total_steps * (n**2 - self.first**2) // slope + 1] = n
        self.starts = tuple(intervals_at)
        self.points = tuple(n + 1 for n in intervals_at.values())

    def stage(self, step: Step) -> Int[Array, ""]:
        """The number of stages begun after stage 0 by `step`."""
        return jnp.sum(jnp.asarray(step) >= jnp.asarray(self.starts[1:], jnp.int32))

    def decay(self, step: Step) -> Scalar:
        """The averaging rate of the teacher's weights, `mu(k) = exp(s0 ln(mu_0) / intervals)` (Song et al. 2023)."""
        return jnp.exp(self._log_decay(step))

    def teacher_share(self, step: Step) -> Scalar:
        """`1 - mu(k)` without its rounding: what `train.Recipe.teacher_share` wants."""
        return -jnp.expm1(self._log_decay(step))

    def _log_decay(self, step: Step) -> Scalar:
        intervals = jnp.asarray(self.points, float)[self.stage(step)] - 1
        return self.first * jnp.log(self.initial_decay) / intervals


class Halving(AbstractCurriculum):
    """Progressive distillation's stages (Salimans & Ho 2022): the student makes `first` steps, then half of them ...

    The last stage has `last` intervals. Its `points` descend.

    Args:
        first: intervals of the student's first stage; the teacher it starts from makes twice as many steps.
        last: intervals of the last stage: `first` halved some number of times.
        starts: the step at which each stage begins; the first is 0.
    """

    first: int = eqx.field(static=True)
    last: int = eqx.field(default=1, static=True)
    starts: tuple[int, ...] = eqx.field(static=True, kw_only=True)
    points: tuple[int, ...] = eqx.field(init=False, static=True)

    def __post_init__(self) -> None:
        check_at_least("last", self.last, 1)
        stages, rest = divmod(math.log2(max(self.first, 1) / self.last), 1)
        if rest or stages < 0:
            raise ValueError(f"first: expected last = {self.last} doubled some number of times, found {self.first}")
        self.points = tuple(self.first // 2**i + 1 for i in range(int(stages) + 1))
        ascending = all(a < b for a, b in itertools.pairwise(self.starts))
        if len(self.starts) != len(self.points) or self.starts[:1] != (0,) or not ascending:
            expected = f"{len(self.points)} ascending steps, the first 0, for {self.first} to {self.last} intervals"
            raise ValueError(f"starts: expected {expected}, found {self.starts}")

    @staticmethod
    def from_periods(first: int, last: int, *, period: int, last_period: int | None = None) -> "Halving":
        """Every stage `period` steps long, those of one and two intervals `last_period` (by default the same).

        The paper's are 50,000 and 100,000.
        """
        check_at_least("period", period, 1)
        check_at_least("last_period", last_period or period, 1)
        intervals = [first // 2**i for i in range(64) if first // 2**i >= max(last, 1)]
        lengths = [(last_period or period) if n <= 2 else period for n in intervals[:-1]]
        return Halving(first, last, starts=(0, *itertools.accumulate(lengths)))

    def stage(self, step: Step) -> Int[Array, ""]:
        """The number of stages begun after stage 0 by `step`."""
        return jnp.sum(jnp.asarray(step) >= jnp.asarray(self.starts[1:], jnp.int32))

    def teacher_share(self, step: Step) -> Scalar:
        """1 at the update before a new stage begins, else 0: the student becomes the teacher of the next stage."""
        begins = jnp.asarray(step) + 1 == jnp.asarray(self.starts[1:], jnp.int32)
        return jnp.any(begins).astype(jnp.float32)
