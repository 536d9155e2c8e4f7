"""The training set as a law: its posterior mean as a target, held in memory and divided among the devices."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..._base.batch import as_example
from ...data import ArrayRecordSet, Dataset, ImageFolder
from ...diagnostics import measure_support
from ...oracle import Empirical
from ..settings.config import Config

T = TypeVar("T")

LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
DRAWN = 64
"""Samples whose posterior means are looked at."""


def training_posterior(flag: str, config: Config, dataset: Dataset) -> Empirical:
    """Equal point masses on the training set, mirrored images among them where batches are mirrored.

    Raises:
        ValueError: naming the flag, for data that stay on disk.
    """
    if isinstance(dataset, ArrayRecordSet | ImageFolder):
        raise ValueError(  # noqa: TRY004  (a setting)
            f"{flag}: expected sample with data that are read from disk while training, found posterior; it needs them "
            "all in memory: put them into an .npz file (numpy.savez) and use the preset npz"
        )
    points = as_example(dataset.take(np.arange(dataset.size))).x
    if getattr(config.data, "flip", False):
        points = np.concatenate([points, points[..., ::-1]])
    return Empirical(jnp.asarray(points, jnp.float32))


def training_target(source: str, config: Config, dataset: Dataset) -> Any:
    """The target slot of denoising: None for the clean sample, else the posterior mean over the training set."""
    return None if source == "sample" else training_posterior("method.target", config, dataset).denoise


def divided(objective: T, mesh: Mesh | None) -> T:
    """The objective with every data set in it divided among the devices, or copied to all if it cannot be divided."""

    def place(law: Any) -> Any:
        if not isinstance(law, Empirical) or mesh is None or mesh.size == 1:
            return law
        if len(law.points) % mesh.size:
            return Empirical(jax.device_put(law.points, NamedSharding(mesh, PartitionSpec())))
        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        return Empirical(jax.device_put(law.points, rows), mesh=mesh)

    return jax.tree.map(place, objective, is_leaf=lambda node: isinstance(node, Empirical))


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
