"""The noise of an objective's gradient at frozen weights: its mean, its covariance trace, and a bias between two.

Notation: `g` is the gradient of one example, `E g` the mean over fresh examples and draws. The gradient of a batch of
`B` has the mean `E g` and the covariance `Cov g / B`.
"""

from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree

from .._base.batch import Example, Pair
from .._base.check import check_at_least
from .._base.dtypes import float32_or_wider
from .._base.explain import show
from .._base.tree import batch_size, trainable
from .._base.types import Batch, Key, Scalar, Step
from ..model import WithTeacher, student_of
from ..objectives.terms import Objective


class GradientStatistics(eqx.Module):
    """Signal and noise of an objective's gradient; every number is free of bias, so a small one may be negative.

    Compare `signal_to_noise` and `critical_batch`, never the first four numbers across the stages of a curriculum or
    across weightings: a weight `1 / (t - r)` grows with every finer grid and takes all of them with it.

    Small values of `square_norm` and `bias_square` scatter by up to `sqrt(2) / examples` times their covariance trace:
    they tell something where `examples` is many times `critical_batch`. `covariance_trace` is known to about
    `sqrt(2 / (parts - 1))` of itself or better.

    Attributes:
        square_norm: `|E g|^2`.
        covariance_trace: `tr Cov g`, of one example.
        bias_square: `|E g - E g_reference|^2`; None without a reference.
        bias_trace: `tr Cov (g - g_reference)` of one example, with common random numbers.
        examples: how many examples went in.
        parts: how many independent gradients.
    """

    square_norm: Scalar
    covariance_trace: Scalar
    bias_square: Scalar | None
    bias_trace: Scalar | None
    examples: int
    parts: int

    @property
    def signal_to_noise(self) -> Scalar:
        """`|E g| / sqrt(tr Cov g)` of one example; that of a batch of B is `sqrt(B)` times it. 0 if lost in the noise.

        Infinite for a gradient without noise.
        """
        return jnp.sqrt(jnp.maximum(self.square_norm, 0) / self.covariance_trace)

    @property
    def critical_batch(self) -> Scalar:
        """`tr Cov g / |E g|^2`: the batch whose noise is as large as its signal (McCandlish et al. 2018, `B_simple`).

        Infinite where the signal is lost in the noise.
        """
        found = self.covariance_trace / self.square_norm
        return jnp.where(self.square_norm > 0, found, jnp.inf)


class _Moments(eqx.Module):
    """Of some vectors: their number, their mean, and the sum of their squared distances from it."""

    number: Array
    mean: Array
    scatter: Array

    @staticmethod
    def of(vectors: Float[Array, "n size"]) -> "_Moments":
        mean = vectors.mean(0)
        return _Moments(jnp.asarray(len(vectors), mean.dtype), mean, jnp.square(vectors - mean[None]).sum())

    def merged(self, other: "_Moments") -> "_Moments":
        """Those of both (Chan et al. 1979)."""
        number = self.number + other.number
        shift, share = other.mean - self.mean, other.number / number
        scatter = self.scatter + other.scatter + share * self.number * jnp.square(shift).sum()
        return _Moments(number, self.mean + share * shift, scatter)

    def estimates(self, size: int) -> tuple[Scalar, Scalar]:
        """`|E|^2` and the trace of one example's covariance, where each vector is a mean over `size` examples."""
        trace = self.scatter / (self.number - 1)
        return jnp.square(self.mean).sum() - trace / self.number, size * trace


def _all(model: PyTree) -> PyTree:
    return model


def _with_student(model: PyTree, student: PyTree) -> PyTree:
    return WithTeacher(student, model.teacher) if isinstance(model, WithTeacher) else student


@eqx.filter_jit
def _of_batch(
    objectives: tuple[Objective, ...],
    model: PyTree,
    batch: Batch,
    step: Step,
    keys: Array,
    where: Callable[[PyTree], PyTree],
    at_once: int,
) -> tuple[_Moments, ...]:
    """Of one batch, cut into as many parts as there are keys: the gradient's moments, and those of the difference."""
    student = student_of(model)
    parameters, rest = eqx.partition(student, trainable(student))

    def gradient(objective: Objective, part: Batch, key: Key) -> Array:
        loss = lambda own: objective(_with_student(model, eqx.combine(own, rest)), part, step, key=key)[0]
        flat, _ = ravel_pytree(where(jax.grad(loss)(parameters)))
        return flat.astype(float32_or_wider(flat.dtype))

    def vectors(part: Batch, key: Key) -> tuple[Array, ...]:
        found, *others = (gradient(objective, part, key) for objective in objectives)
        return (found, *(found - other for other in others))

    def add(sums: tuple[_Moments, ...], chunk: tuple[Batch, Array]) -> tuple[tuple[_Moments, ...], None]:
        new = jax.vmap(vectors)(*chunk)
        return tuple(old.merged(_Moments.of(each)) for old, each in zip(sums, new, strict=True)), None

    def divide(leaf: Array) -> Array:
        return leaf.reshape(-1, at_once, len(leaf) // len(keys), *leaf.shape[1:])

    chunks = jax.tree.map(divide, batch), keys.reshape(-1, at_once)
    shapes = jax.eval_shape(vectors, *jax.tree.map(lambda leaf: leaf[0, 0], chunks))
    zero = lambda shape: _Moments(*(jnp.zeros(of, shape.dtype) for of in ((), shape.shape, ())))
    return jax.lax.scan(add, tuple(map(zero, shapes)), chunks)[0]


def gradient_statistics(
    objective: Objective,
    model: PyTree,
    batches: Iterable[Batch],
    *,
    step: Step = 0,
    parts: int | None = None,
    reference: Objective | None = None,
    where: Callable[[PyTree], PyTree] = _all,
    at_once: int = 16,
    key: Key,
) -> GradientStatistics:
    """Statistics of an objective's gradient over fresh batches, with the weights as they are.

    Each batch is cut into equal parts, and each part's gradient is taken by itself, with a key of its own. From the
    scatter of these gradients follow both numbers without bias: from two half batches `<g_A, g_B>` for `|E g|^2` and
    `|g_A - g_B|^2 / 2` for the trace of one half's covariance. With one example a part this is exact per example; with
    `parts=2` it costs no more than the batches' ordinary gradients, and the trace is known less well.

    What an objective couples within a batch (stratified levels, optimal transport) it couples within a part: such
    objectives ask for large parts, and the numbers are then those of such parts, scaled to one example.

    One noise level, or one pair: give an objective that draws no other, such as `ConsistencyTraining` with the
    curriculum `Constant(2)` and `sigma_min`, `sigma_max` the two levels. One stage: give a `step` of it.

    Args:
        objective: `(model, batch, step, *, key) -> (loss, terms)`, the loss a mean over the batch.
        model: what the objective takes; of a `WithTeacher`, the student's gradient.
        batches: a list or a finite iterator of them, of one size, none seen in training where that matters.
        step: of training, for curricula.
        parts: of each batch, >= 1, dividing its size; by default one per example.
        reference: a second objective, such as the same under the exact velocity; it gets the same parts and keys, so
            that what both draw alike cancels in the bias (common random numbers).
        where: model -> what of it counts, such as `lambda model: model.cm.torso`; by default all that is trained.
        at_once: gradients that are held in memory beside each other, >= 1; a divisor of `parts` near it is taken.
        key: for the draws.

    Raises:
        ValueError: for fewer than two parts in all, batches of several sizes, a size that `parts` does not divide, or
            nothing trainable at `where`.
        TypeError: for one batch instead of several.
    """
    if isinstance(batches, Array | np.ndarray | Example | Pair):
        raise TypeError(f"batches: expected a list or an iterator of batches, found one batch, {show(batches)}")
    check_at_least("at_once", at_once, 1)
    if parts is not None:
        check_at_least("parts", parts, 1)
    if not jax.tree.leaves(where(eqx.filter(student_of(model), trainable(student_of(model))))):
        raise ValueError("where: expected a part of the model with trainable arrays, found none")
    objectives = (objective,) if reference is None else (objective, reference)
    sums, size, total = (), 0, 0
    for index, batch in enumerate(batches):
        found = batch_size(batch)
        if index and found != size:
            raise ValueError(f"batches: expected all of one size, found {size} and {found} examples")
        size, number = found, parts or found
        if number == 0 or size % number:
            raise ValueError(f"parts: expected a divisor of the batch's {size} examples, found {parts}")
        beside = max(divisor for divisor in range(1, min(at_once, number) + 1) if number % divisor == 0)
        keys = jr.split(jr.fold_in(key, index), number)
        new = _of_batch(objectives, model, jax.tree.map(jnp.asarray, batch), step, keys, where, beside)
        sums = tuple(old.merged(each) for old, each in zip(sums, new, strict=True)) if index else new
        total += number
    if total < 2:
        raise ValueError(f"batches: expected at least two parts in all, to tell signal from noise, found {total}")
    of_part = size // (parts or size)
    (square_norm, trace), *others = (each.estimates(of_part) for each in sums)
    bias = others[0] if others else (None, None)
    return GradientStatistics(square_norm, trace, *bias, examples=total * of_part, parts=total)
