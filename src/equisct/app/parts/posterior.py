"""The training set as a law: its posterior mean as a target, held in memory and divided among the devices."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..._base.batch import as_example
from ...data import ArrayRecordSet, ConditionalSet, Dataset, ImageFolder
from ...diagnostics import measure_support
from ...objectives.velocity import ReferenceVelocity
from ...oracle import Empirical, Labelled
from ...oracle.empirical import BLOCK
from ..settings.config import Config

T = TypeVar("T")

LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
DRAWN = 64
"""Samples whose posterior means are looked at."""


def training_posterior(config: Config, dataset: Dataset) -> Empirical | Labelled:
    """Equal point masses on the training set, mirrored images among them where batches are mirrored; by class, if any.

    Raises:
        ValueError: for data that stay on disk; for conditions that are no classes.
    """
    if isinstance(dataset, ArrayRecordSet | ImageFolder):
        raise ValueError(  # noqa: TRY004  (a setting)
            "method: expected velocity and target sample with data that are read from disk while training, found "
            "posterior, which needs them all in memory: put them into an .npz file (numpy.savez) and use the preset npz"
        )
    points, labels = as_example(dataset.take(np.arange(dataset.size)))
    if isinstance(dataset, ConditionalSet) and dataset.classes is None:
        raise ValueError(
            "method: expected velocity and target sample with data.condition vector, found posterior: no two samples "
            "share a condition, so that the mean given one would be the sample itself"
        )
    if getattr(config.data, "flip", False):
        points = np.concatenate([points, points[..., ::-1]])
        labels = None if labels is None else np.concatenate([labels, labels])
    law = Empirical(jnp.asarray(points, jnp.float32))
    return law if labels is None else Labelled(law, jnp.asarray(labels))


def divided(objective: T, mesh: Mesh | None) -> T:
    """The objective with every data set in it divided among the devices, or copied to all if it cannot be divided."""
    if mesh is None or mesh.size == 1:
        return objective
    placed: dict[int, Empirical] = {}  # one that stands in two places lies in memory once

    def place(node: Any) -> Any:
        if not isinstance(node, Empirical):
            return node
        if id(node.points) not in placed:
            divides = len(node.points) % mesh.size == 0
            layout = NamedSharding(mesh, PartitionSpec(mesh.axis_names) if divides else PartitionSpec())
            placed[id(node.points)] = Empirical(jax.device_put(node.points, layout), mesh=mesh if divides else None)
        return placed[id(node.points)]

    return jax.tree.map(place, objective, is_leaf=lambda node: isinstance(node, Empirical))


def held_in_words(objective: Any, mesh: Mesh) -> str:
    """What an objective holds of the training set for its posterior mean, and what that costs; "" if it holds none."""
    kinds = (Empirical, ReferenceVelocity)
    nodes = jax.tree.leaves(objective, is_leaf=lambda node: isinstance(node, kinds))
    found = [node for node in nodes if isinstance(node, kinds)]
    if not found:
        return ""
    points = list({id(node.points): node.points for node in found}.values())
    size = sum(each.nbytes // (1 if each.sharding.is_fully_replicated else mesh.size) for each in points)
    seen = max(node.size if isinstance(node, ReferenceVelocity) else len(node.points) for node in found)
    work = 4 * seen * points[0][0].size / 1e9
    counted = f" (the work below counts {BLOCK:,} of them)" if seen > BLOCK else ""  # XLA counts a loop's body once
    return (
        f"{len(points[0]):,} samples in memory, {size / 2**20:,.1f} MiB per device (in the memory below); "
        f"each mean over {seen:,} of them takes {work:,.2g} GFLOP per sample{counted}"
    )


def describe_support(dataset: Dataset) -> str:
    """By noise level, how many samples stand behind the posterior mean of one, as a table for people."""
    indices = dataset.good if isinstance(dataset, ImageFolder) else np.arange(dataset.size)
    law = Empirical(jnp.asarray(as_example(dataset.take(indices)).x, jnp.float32))
    found = measure_support(law, jnp.array(LEVELS), samples=DRAWN, key=jr.key(0))
    rows = zip(LEVELS, found.effective_samples.tolist(), found.removable.tolist(), strict=True)
    lines = [f"{sigma:11g} | {number:28,.1f} | {share:25.1%}" for sigma, number, share in rows]
    return "\n".join(
        [f"{'noise level':>11} | {'samples behind the mean':>28} | {'of the noise, it takes':>25}", *lines]
    )
