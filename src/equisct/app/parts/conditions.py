"""What a run's network is told beside the noise level, and what samples are drawn under."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..._base.batch import GuidedCondition
from ...data import ConditionalSet, Dataset
from ...guidance import Conditioned, Guided
from ...nn import ClassEmbedding, GuidanceEmbedding, VectorEmbedding
from ..settings.config import Config
from .condition_size import CLASSES, NONE, kind_of


def told_to_network(config: Config) -> dict[str, Any]:
    """The arguments `condition` and `condition_dropout` of a network, where samples are made under something."""
    kind, torso = kind_of(config), config.torso
    if kind == NONE:
        return {}
    embedder: Any = ClassEmbedding(torso.condition) if kind == CLASSES else VectorEmbedding(torso.condition)
    if torso.guidance == 1:
        return {"condition": embedder, "condition_dropout": torso.condition_dropout}
    return {"condition": GuidanceEmbedding(embedder, 1.0, torso.guidance)}  # a scale of 0 is what drops conditions


class Conditions(eqx.Module):
    """What samples are drawn under: one condition for each, and how strongly it guides.

    Args:
        rows: the conditions, the first axis the samples; sample i is drawn under row i, round and round.
        scale: of guidance; 1 is none.
        inside: the model is told the scale itself, which a single step needs; else each step is guided.
    """

    rows: Any
    scale: Any = 1.0
    inside: bool = eqx.field(static=True, default=False)

    def classes(self, n: int) -> np.ndarray | None:
        """The class that each of `n` samples is drawn under; None where the conditions are no classes."""
        rows = np.asarray(self.rows)
        return rows[np.arange(n) % len(rows)] if rows.dtype.kind in "ui" and rows.ndim == 1 else None

    def bind(self, model: Any, index: Any) -> Any:
        """The model under the condition of a sample."""
        row = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index % len(leaf)], self.rows)
        if self.inside:
            return Conditioned(model, GuidedCondition(row, jnp.asarray(self.scale, jnp.float32)))
        told = Conditioned(model, row)
        return told if isinstance(self.scale, float) and self.scale == 1 else Guided(told, model, self.scale)


def classes_in_turn(config: Config, n: int) -> Conditions | None:
    """Of `n` samples as many of each class, class by class; None where there are no classes."""
    if kind_of(config) != CLASSES:
        return None
    return Conditions(np.arange(n, dtype=np.int32) * config.torso.condition // n)


def in_a_row(config: Config, n: int) -> int | None:
    """How many of `n` pictures stand in a row, so that each row is a class; None where that cannot be."""
    if kind_of(config) != CLASSES or n % config.torso.condition:
        return None
    return n // config.torso.condition


def conditions_to_show(config: Config, dataset: Dataset, n: int) -> Conditions | None:
    """For pictures: the classes, one after the other, or the conditions of some samples of the data."""
    if not isinstance(dataset, ConditionalSet) or kind_of(config) == CLASSES:
        return classes_in_turn(config, n)
    return Conditions(dataset.conditions[np.random.default_rng(0).permutation(dataset.size)[:n]])


def conditions_of_data(dataset: Dataset) -> Conditions | None:
    """For figures: those of the data, in an order that depends on nothing else; None where there are none."""
    if not isinstance(dataset, ConditionalSet):
        return None
    rows = dataset.conditions[np.random.default_rng(0).permutation(dataset.size)]
    return Conditions(rows if dataset.classes is None else rows.astype(np.int32))
