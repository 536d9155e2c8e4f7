"""Lower precision inside a network, and nowhere else: parameters stay float32, and so do the loss and its weights."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import DTypeLike
from jaxtyping import PyTree

from .._base.tree import Frozen, path_name
from .._base.types import Key
from .embedding import Mapping

T = TypeVar("T")


EMBEDDING = ("embedding_norm", "merge")
"""Fields of the library's head networks that make one noise embedding of their own and the torso's."""


def lower(network: T, dtype: DTypeLike) -> T:
    """The network with its float32 parameters cast to `dtype`, all but those of the noise embedding.

    Those are a `Mapping`, wherever it is, and the network's own fields named in `EMBEDDING`. Gradients with respect to
    the parameters before the cast are float32 again.
    """
    keeps = lambda node: isinstance(node, Mapping | Frozen)

    def cast(path: KeyPath, node: PyTree) -> PyTree:
        kept = keeps(node) or path_name(path[:1]) in EMBEDDING
        return node if kept or not eqx.is_array(node) or node.dtype != jnp.float32 else node.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, network, is_leaf=keeps)


class Lowered(eqx.Module):
    """A torso or head network computed in `dtype`, with float32 around it; made at the moment of use.

    Images and features are cast on the way in, everything is cast to float32 on the way out. The noise level and the
    torso's noise embedding enter as they are, and inside the library's networks the noise embedding, the statistics of
    norms and the softmax of attention are float32.

    Args:
        network: a torso or a head network, its parameters float32.
        dtype: such as `jnp.bfloat16`.
    """

    network: Any
    dtype: Any = eqx.field(static=True)

    def __call__(self, x: Array, *inputs: PyTree, key: Key | None = None, **named: PyTree) -> PyTree:
        kept = min(len(inputs), 2)  # a torso's `c_noise`; a head network's `embedding, c_noise`, after other arrays
        arrays = [each.astype(self.dtype) for each in (x, *inputs[:-kept])]
        output = lower(self.network, self.dtype)(*arrays, *inputs[-kept:], key=key, **named)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), output)
