"""The training set as a law: its posterior mean as a target, held in memory and divided among the devices."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..._base.batch import as_example
from ...data import ArrayRecordSet, Dataset, ImageFolder
from ...oracle import Empirical
from ..settings.config import Config

T = TypeVar("T")


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


def divided(objective: T, mesh: Mesh) -> T:
    """The objective with every data set in it divided among the devices, or copied to all if it cannot be divided."""

    def place(law: Any) -> Any:
        if not isinstance(law, Empirical) or mesh.size == 1:
            return law
        if len(law.points) % mesh.size:
            return Empirical(jax.device_put(law.points, NamedSharding(mesh, PartitionSpec())))
        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        return Empirical(jax.device_put(law.points, rows), mesh=mesh)

    return jax.tree.map(place, objective, is_leaf=lambda node: isinstance(node, Empirical))
