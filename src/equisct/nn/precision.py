"""Lower precision inside a network, and nowhere else: parameters stay float32, and so do the loss and its weights."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import PyTree

from .._base.tree import Frozen
from .._base.types import Key
from .embedding import Mapping

T = TypeVar("T")


def lower(network: T, dtype: DTypeLike) -> T:
    """The network with its float32 parameters cast to `dtype`, all but those of the noise embedding (`Mapping`).

    Gradients with respect to the parameters before the cast are float32 again.
    """
    keeps = lambda node: isinstance(node, Mapping | Frozen)

    def cast(node: PyTree) -> PyTree:
        return node.astype(dtype) if eqx.is_array(node) and node.dtype == jnp.float32 else node

    return jax.tree.map(lambda node: node if keeps(node) else cast(node), network, is_leaf=keeps)


class Lowered(eqx.Module):
    """A torso or head network computed in `dtype`, with float32 around it; made at the moment of use.

    Images and features are cast on the way in, everything is cast to float32 on the way out; the noise level and the
    noise embedding stay float32, and inside the library's networks so do the statistics of norms and the softmax of
    attention.

    Args:
        network: a torso or a head network, its parameters float32.
        dtype: such as `jnp.bfloat16`.
    """

    network: Any
    dtype: Any = eqx.field(static=True)

    def __call__(self, x: Array, *inputs: PyTree, key: Key | None = None, **named: PyTree) -> PyTree:
        *others, c_noise = inputs
        arrays = [each.astype(self.dtype) for each in (x, *others)]
        output = lower(self.network, self.dtype)(*arrays, c_noise, key=key, **named)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), output)
