"""What an objective returns beside its loss: the parts that add up to it, and the terms for logging."""

import abc
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.types import Key, Level, Scalar, Step

BINS = 8


class Parts(eqx.Module):
    """The loss as a sum: `consistency + denoising`, each with its weight."""

    consistency: Scalar
    denoising: Scalar

    def total(self) -> Scalar:
        """The loss."""
        return self.consistency + self.denoising


class Terms(eqx.Module):
    """Parts of one batch for logging.

    `consistency` and `denoising` are the batch means before the head's weight. The `*_per_bin` arrays are sums over the
    samples whose student level (for denoising: head level) lies in each of eight bins, equally wide in ln sigma; divide
    by `count_per_bin` and `head_count_per_bin`, which differ only where the head has a level law of its own.
    """

    consistency: Scalar
    denoising: Scalar
    consistency_per_bin: Float[Array, " bins"]
    denoising_per_bin: Float[Array, " bins"]
    count_per_bin: Float[Array, " bins"]
    head_count_per_bin: Float[Array, " bins"]


def bin_edges(sigma_min: float, sigma_max: float) -> np.ndarray:
    """The edges of the bins in sigma, ascending: `bins + 1` of them."""
    return np.geomspace(sigma_min, sigma_max, BINS + 1)


class SampleLosses(eqx.Module):
    """The losses of each sample and the levels they were taken at: `(batch,)` arrays, or numbers for one sample."""

    consistency: Float[Array, "*batch"]
    denoising: Float[Array, "*batch"]
    t: Float[Array, "*batch"]
    head_t: Float[Array, "*batch"]


def collect_terms(losses: SampleLosses, sigma_min: Level, sigma_max: Level) -> Terms:
    """The terms of a batch."""

    def member(level: Array) -> Array:
        position = jnp.log(level / sigma_min) / jnp.log(sigma_max / sigma_min)
        return jax.nn.one_hot(jnp.clip(jnp.floor(BINS * position), 0, BINS - 1).astype(int), BINS)

    of_student, of_head = member(losses.t), member(losses.head_t)
    return Terms(
        consistency=losses.consistency.mean(),
        denoising=losses.denoising.mean(),
        consistency_per_bin=losses.consistency @ of_student,
        denoising_per_bin=losses.denoising @ of_head,
        count_per_bin=of_student.sum(0),
        head_count_per_bin=of_head.sum(0),
    )


@runtime_checkable
class Objective(Protocol):
    """What training needs: a batch in, `(loss, terms)` out; the objective owns the randomness."""

    def __call__(
        self, model: PyTree, batch: Float[Array, "batch *shape"], step: Step, *, key: Key
    ) -> tuple[Scalar, PyTree]:
        """The loss of one batch at optimiser update `step`, and anything to log."""
        ...


@runtime_checkable
class SplitObjective(Objective, Protocol):
    """An objective in three steps, so that a batch can be computed in parts and its gradient taken by parts.

    `objective(model, batch, step, key=key)` equals `reduce(sample_losses(model, draw(batch, step, key=key)))`.
    """

    def draw(self, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> PyTree:
        """Everything random and given about the batch; every array's first axis is the batch."""
        ...

    def sample_losses(self, model: PyTree, draws: PyTree) -> PyTree:
        """What the samples of some draws contribute, each alone; every array's first axis is that of the draws."""
        ...

    def reduce(self, losses: PyTree) -> tuple[Parts, PyTree]:
        """The loss in its parts (means over the samples), and anything to log."""
        ...


class AbstractSplitObjective(eqx.Module):
    """A `SplitObjective` of which only the three steps are left to write."""

    def check(self, model: PyTree) -> None:
        """Raises or warns where a model is none that this can train; `train.init_state` asks before anything runs."""

    @abc.abstractmethod
    def draw(self, batch: Float[Array, "batch *shape"], step: Step, *, key: Key) -> PyTree:
        """See `SplitObjective`."""

    @abc.abstractmethod
    def sample_losses(self, model: PyTree, draws: PyTree) -> PyTree:
        """See `SplitObjective`."""

    @abc.abstractmethod
    def reduce(self, losses: PyTree) -> tuple[Parts, PyTree]:
        """See `SplitObjective`."""

    def __call__(
        self, model: PyTree, batch: Float[Array, "batch *shape"], step: Step, *, key: Key
    ) -> tuple[Scalar, PyTree]:
        parts, terms = self.reduce(self.sample_losses(model, self.draw(batch, step, key=key)))
        return parts.total(), terms
