"""What an objective returns beside its loss: the named, weighted parts that add up to it, and sums per noise level."""

import abc
import functools
import operator
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .._base.tree import path_name
from .._base.types import Batch, Key, Level, Scalar, Step

BINS = 8


class Part(eqx.Module):
    """One summand of a loss: `weight * value`. A part of weight 0 is only logged."""

    value: Scalar
    weight: Level = 1.0


class PerLevel(eqx.Module):
    """Sums over the samples whose noise level lies in each bin: `total / count` is the mean of a bin.

    `edges` ascend, one more than there are bins; levels beyond the ends count in the first and the last bin.
    """

    total: Float[Array | np.ndarray, " bins"]
    count: Float[Array | np.ndarray, " bins"]
    edges: Float[Array | np.ndarray, " bins+1"]

    @staticmethod
    def from_samples(
        values: Float[Array, " batch"], levels: Float[Array, " batch"], edges: Float[Array | np.ndarray, " edges"]
    ) -> "PerLevel":
        """The sums of one value per sample."""
        bins = len(edges) - 1
        inner = jnp.asarray(edges[1:-1], levels.dtype)
        member = jax.nn.one_hot(jnp.searchsorted(inner, levels, side="right"), bins, dtype=values.dtype)
        return PerLevel(jnp.matmul(values, member, precision="highest"), member.sum(0), edges)


class Terms(eqx.Module):
    """A loss as its named parts, and named sums per noise level; `terms["denoising"]` is that part before its weight.

    Args:
        parts: what the loss is the weighted sum of; means over the batch.
        per_level: for logging.
    """

    parts: dict[str, Part]
    per_level: dict[str, PerLevel] = eqx.field(default_factory=dict)

    def __getitem__(self, name: str) -> Scalar:
        return self.parts[name].value

    @property
    def weighted(self) -> dict[str, Scalar]:
        """Each part with its weight."""
        return {name: part.weight * part.value for name, part in self.parts.items()}

    @property
    def loss(self) -> Scalar:
        """The sum of the weighted parts."""
        return functools.reduce(operator.add, self.weighted.values())


def bin_edges(sigma_min: Level, sigma_max: Level) -> Float[Array, " edges"]:
    """The edges of eight bins between two levels, equally wide in ln sigma; ascending."""
    edges = jnp.geomspace(sigma_min, sigma_max, BINS + 1)
    return edges.at[0].set(sigma_min).at[-1].set(sigma_max)  # which rounding would miss


class SampleLoss(eqx.Module):
    """One named loss of each sample, before its weight, and the level it was taken at (None: at no level)."""

    value: Float[Array, "*batch"]
    sigma: Float[Array, "*batch"] | None = None


def collect_terms(losses: Mapping[str, SampleLoss], edges: Float[Array | np.ndarray, " edges"] | None = None) -> Terms:
    """The terms of a batch: each loss's mean as a part of weight 1, and its sums per level where it has levels."""
    per_level = {}
    for name, loss in losses.items():
        if edges is not None and loss.sigma is not None:
            per_level[name] = PerLevel.from_samples(loss.value, loss.sigma, edges)
    return Terms({name: Part(loss.value.mean()) for name, loss in losses.items()}, per_level)


def named_terms(terms: PyTree) -> tuple[dict[str, Any], dict[str, PerLevel]]:
    """The scalars and the sums per level in whatever an objective returns for logging, by the names they have there.

    Parts of `Terms` come before their weight; a scalar inside `{"a": {"b": ...}}` is `a/b`, one alone `term`. Arrays
    and everything else are left out.
    """
    scalars: dict[str, Any] = {}
    per_level: dict[str, PerLevel] = {}
    is_leaf = lambda node: isinstance(node, Terms | PerLevel)
    for path, leaf in jax.tree_util.tree_leaves_with_path(terms, is_leaf=is_leaf):
        name = path_name(path)
        below = f"{name}/" if name else ""
        if isinstance(leaf, Terms):
            scalars |= {below + inner: part.value for inner, part in leaf.parts.items()}
            per_level |= {below + inner: sums for inner, sums in leaf.per_level.items()}
        elif isinstance(leaf, PerLevel):
            per_level[name or "term"] = leaf
        elif eqx.is_array_like(leaf) and jnp.shape(leaf) == () and not jnp.iscomplexobj(leaf):
            scalars[name or "term"] = leaf
    return scalars, per_level


@runtime_checkable
class Objective(Protocol):
    """What training needs: a batch in, `(loss, terms)` out; the objective owns the randomness."""

    def __call__(self, model: PyTree, batch: Batch, step: Step, *, key: Key) -> tuple[Scalar, PyTree]:
        """The loss of one batch at optimiser update `step`, and anything to log; see `named_terms`."""
        ...


@runtime_checkable
class SplitObjective(Objective, Protocol):
    """An objective in three steps, so that a batch can be computed in parts and its gradient taken by parts.

    `objective(model, batch, step, key=key)` is the loss of `reduce(sample_losses(model, draw(batch, step, key=key)))`.
    """

    def draw(self, batch: Batch, step: Step, *, key: Key) -> PyTree:
        """Everything random and given about the batch; every array's first axis is the batch."""
        ...

    def sample_losses(self, model: PyTree, draws: PyTree) -> PyTree:
        """What the samples of some draws contribute, each alone; every array's first axis is that of the draws."""
        ...

    def reduce(self, losses: PyTree) -> Terms:
        """The loss in its parts, which must be means over the samples."""
        ...


class AbstractSplitObjective(eqx.Module):
    """A `SplitObjective` of which only the three steps are left to write."""

    def check(self, model: PyTree) -> None:
        """Raises or warns where a model is none that this can train; `train.init_state` asks before anything runs."""

    @abc.abstractmethod
    def draw(self, batch: Batch, step: Step, *, key: Key) -> PyTree:
        """See `SplitObjective`."""

    @abc.abstractmethod
    def sample_losses(self, model: PyTree, draws: PyTree) -> PyTree:
        """See `SplitObjective`."""

    @abc.abstractmethod
    def reduce(self, losses: PyTree) -> Terms:
        """See `SplitObjective`."""

    def __hash__(self) -> int:
        try:
            return hash(tuple(jax.tree.leaves(self)))
        except TypeError:
            expected = "jax.jit expects a function without arrays, found one that holds tables of levels"
            raise TypeError(f"objective: {expected}; use equinox.filter_jit(objective)") from None

    def __call__(self, model: PyTree, batch: Batch, step: Step, *, key: Key) -> tuple[Scalar, PyTree]:
        terms = self.reduce(self.sample_losses(model, self.draw(batch, step, key=key)))
        return terms.loss, terms
