"""Where arrays live: one mesh over all devices; the state on every device, the batch divided among them."""

from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

AXIS = "data"


def data_mesh(devices: int | None = None) -> Mesh:
    """A one-dimensional mesh, axis `data`, over every device of every process, or over the first `devices`.

    Raises:
        ValueError: if there are fewer devices than asked for.
    """
    found = jax.devices()
    if devices is not None and not 1 <= devices <= len(found):
        raise ValueError(f"devices: expected 1 to {len(found)} (those there are), found {devices}")
    chosen = found[:devices]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def replicate(tree: T, mesh: Mesh) -> T:
    """The tree with every array on all devices of the mesh."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, NamedSharding(mesh, PartitionSpec())), rest)


def keep_replicated(tree: T, mesh: Mesh) -> T:
    """Inside `jit`: pins every array to the layout of `replicate`."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.with_sharding_constraint(arrays, NamedSharding(mesh, PartitionSpec())), rest)


def shard_batch(batch: Array | np.ndarray, mesh: Mesh) -> Array:
    """The batch divided along its first axis among the mesh's devices.

    Raises:
        ValueError: if the batch's size is not a multiple of the number of devices.
    """
    if batch.shape[0] % mesh.size:
        raise ValueError(f"batch: expected a multiple of the {mesh.size} devices, found {batch.shape[0]} samples")
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
