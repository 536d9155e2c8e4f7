"""Verbs on pytrees, such as `cut`, `lerp` and `trainable`; and `Frozen`, the mark of an array that is never trained."""

import importlib
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import KeyPath
from jaxtyping import PyTree

from .dtypes import float32_or_wider
from .types import Scalar

T = TypeVar("T")


class Frozen(eqx.Module):
    """An array that belongs to a model but is never trained (such as Fourier frequencies)."""

    value: Array


def _is_frozen(node: object) -> bool:
    return isinstance(node, Frozen)


def cut(tree: T) -> T:
    """The same tree with gradients stopped at every floating-point array (the paper's stopgrad)."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


def lerp(a: T, b: T, weight: Scalar | float) -> T:
    """`a + weight (b - a)` on floating-point arrays; every other leaf is taken from `b`."""

    def mix(a: PyTree, b: PyTree) -> PyTree:
        return a + jnp.asarray(weight, a.dtype) * (b - a) if eqx.is_inexact_array(a) else b

    return jax.tree.map(mix, a, b)


def trainable(tree: T) -> T:
    """A filter (True or False per leaf) that selects the floating-point arrays outside `Frozen`."""
    return jax.tree.map(
        lambda node: jax.tree.map(lambda _: False, node) if _is_frozen(node) else eqx.is_inexact_array(node),
        tree,
        is_leaf=_is_frozen,
    )


def count(tree: PyTree) -> int:
    """The number of trainable parameters (numbers, not arrays); works on shapes from `eqx.filter_eval_shape` too."""

    def size(node: PyTree) -> int:
        if _is_frozen(node) or not (isinstance(node, jax.ShapeDtypeStruct) or eqx.is_array(node)):
            return 0
        return node.size if jnp.issubdtype(node.dtype, jnp.inexact) else 0

    return sum(size(node) for node in jax.tree.leaves(tree, is_leaf=_is_frozen))


def batch_size(batch: PyTree) -> int:
    """The number of samples in a batch, a pytree of arrays.

    Raises:
        ValueError: if its arrays are not of one first axis, or there are none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    sizes = {jnp.shape(leaf)[:1] for _, leaf in leaves}
    if len(sizes) != 1 or sizes == {()}:
        found = ", ".join(f"{jax.tree_util.keystr(path)} {jnp.shape(leaf)}".strip() for path, leaf in leaves) or "none"
        raise ValueError(f"batch: expected arrays of one first axis, found {found}")
    return sizes.pop()[0]


def global_norm(tree: PyTree) -> Scalar:
    """The Euclidean norm over all floating-point arrays of a tree, in float32 or better."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    squares = [jnp.sum(jnp.square(leaf.astype(float32_or_wider(leaf.dtype)))) for leaf in leaves]
    return jnp.sqrt(sum(squares, jnp.zeros((), squares[0].dtype if squares else jnp.float32)))


def path_name(path: KeyPath) -> str:
    """The name of a leaf, such as `cm/torso/layers/0/weight`, from its path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def in_short(tree: PyTree, words: str) -> object:
    """For a module's `__pdoc__`: one line, `Name(words)`, wherever it is printed, as in the message of a wrong shape.

    Only the package that prints asks for it, so it is imported here and is no dependency.
    """
    return importlib.import_module("wadler_lindig").TextDoc(f"{type(tree).__name__}({words})")
