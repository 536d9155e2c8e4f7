"""Where arrays live: one mesh `(data, fsdp)` over all devices of all processes, and one rule per kind of array.

Each batch is divided over both axes. The state is copied along `data` and divided along `fsdp`: every large array by
its longest axis that can be, so parameters, averages and the optimiser's moments alike. While an update runs, the
parameters are gathered: the arithmetic of a sample never spans devices.
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._base.tree import batch_size

T = TypeVar("T")

DATA, FSDP = "data", "fsdp"

MIN_DIVIDED = 1024
"""Arrays of fewer numbers are copied to every device: dividing them would cost more than it saves."""


def data_mesh(devices: int | None = None, *, fsdp: int = 1) -> Mesh:
    """A mesh `(data, fsdp)` over every device of every process, or over the first `devices`.

    Args:
        devices: how many; None is all there are.
        fsdp: among how many devices the state is divided (fully sharded data parallelism); 1 copies it to all.

    Raises:
        ValueError: if there are fewer devices than asked for, or `fsdp` does not divide their number.
    """
    found = jax.devices()
    if devices is not None and not 1 <= devices <= len(found):
        raise ValueError(f"devices: expected 1 to {len(found)} (those there are), found {devices}")
    chosen = found[:devices]
    if fsdp < 1 or len(chosen) % fsdp:
        raise ValueError(f"fsdp: expected a divisor of the {len(chosen)} devices, found {fsdp}")
    shape = (len(chosen) // fsdp, fsdp)
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto), devices=chosen)


def state_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How an array of the state is laid out: divided along its longest axis that `fsdp` divides, if it is large."""
    ways, size = mesh.shape[FSDP], int(np.prod(shape))
    axes = [axis for axis in range(len(shape)) if shape[axis] % ways == 0]
    if ways == 1 or size < MIN_DIVIDED or not axes:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[FSDP if axis == longest else None for axis in range(len(shape))]))


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The layout of an array whose axis number `axis` is the batch: divided among all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, (DATA, FSDP)))


def place(tree: T, mesh: Mesh) -> T:
    """The tree with every array laid out by `state_sharding`; the same in every process."""

    def put(leaf: PyTree) -> PyTree:
        if not eqx.is_array(leaf):
            return leaf
        sharding = state_sharding(leaf.shape, mesh)
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # which NumPy cannot hold
        whole = leaf if is_key else np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def keep_placed(tree: T, mesh: Mesh | None) -> T:
    """Inside `jit`: pins every array to the layout of `place`."""
    return _pin(tree, mesh, lambda leaf, mesh: state_sharding(leaf.shape, mesh))


def keep_whole(tree: T, mesh: Mesh | None) -> T:
    """Inside `jit`: gathers every array on every device, so that what uses it is divided as the batch is."""
    return _pin(tree, mesh, lambda _, mesh: NamedSharding(mesh, PartitionSpec()))


def keep_divided(tree: T, mesh: Mesh | None, axis: int = 0) -> T:
    """Inside `jit`: pins every array to the layout of a batch."""
    return _pin(tree, mesh, lambda _, mesh: batch_sharding(mesh, axis))


def _pin(tree: T, mesh: Mesh | None, layout: Callable[[Array, Mesh], NamedSharding]) -> T:
    if mesh is None:
        return tree
    pin = lambda leaf: jax.lax.with_sharding_constraint(leaf, layout(leaf, mesh))
    return jax.tree.map(lambda leaf: pin(leaf) if eqx.is_array(leaf) else leaf, tree)


def shard_batch(batch: T, mesh: Mesh) -> T:
    """The batch, every array divided along its first axis among the mesh's devices; each process gives its own rows.

    Raises:
        ValueError: if the arrays are not of one first axis, or the whole batch is not a multiple of the devices.
    """
    size = batch_size(batch) * jax.process_count()
    if size % mesh.size:
        raise ValueError(f"batch: expected a multiple of the {mesh.size} devices, found {size} samples")
    if jax.process_count() == 1:
        return jax.device_put(batch, batch_sharding(mesh))
    join = jax.make_array_from_process_local_data
    return jax.tree.map(lambda leaf: join(batch_sharding(mesh), np.asarray(leaf)), batch)
