"""The weights of a run in one safetensors file: named by their place in the model, checked on the way in.

A file holds two groups, `model/` and `ema/`; nothing in it can run code.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import KeyPath
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .._base.files import as_path, atomic_write
from .._base.tree import path_name

T = TypeVar("T")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit the model."""


def _is_array(leaf: PyTree) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _is_key(leaf: PyTree) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_numbers(leaf: PyTree) -> Any:
    """An array as files hold it: of a typed key (or its shape) its words, whole numbers; any other itself."""
    if not _is_key(leaf):
        return leaf
    if isinstance(leaf, jax.Array):
        return jax.random.key_data(leaf)
    words = jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(words.shape, words.dtype, sharding=leaf.sharding)


def _as_key(words: Array, like: PyTree) -> Array:
    """The typed key (or keys) of these words, of the generator of `like`, which may be a shape."""
    kinds: list[Any] = []
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)  # which does not take a shape itself
    return jax.random.wrap_key_data(words, impl=kinds[0])


def named_arrays(tree: PyTree) -> dict[str, Any]:
    """Every array of a tree (or shape, from `eqx.filter_eval_shape`) by its path; typed keys as their words."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): _as_numbers(leaf) for path, leaf in leaves if _is_array(leaf)}


def with_arrays(tree: T, arrays: dict[str, Any]) -> T:
    """The tree with every array (or shape) replaced by that of its name in `named_arrays`."""

    def named(path: KeyPath, leaf: PyTree) -> PyTree:
        if not _is_array(leaf):
            return leaf
        array = arrays[path_name(path)]
        return _as_key(array, leaf) if _is_key(leaf) else array

    return jax.tree_util.tree_map_with_path(named, tree)


def save_weights(
    path: str | os.PathLike[str], *, model: PyTree, ema: PyTree, metadata: dict[str, str] | None = None
) -> None:
    """Writes the arrays of a model and of its average to one file, atomically.

    Args:
        path: the file, by convention `*.safetensors`; replaced if it exists.
        model: current weights.
        ema: averaged weights.
        metadata: strings to store beside them, such as the step.
    """
    write_arrays(as_path(path), {"model": model, "ema": ema}, metadata)


def write_arrays(path: pathlib.Path, tree: PyTree, metadata: dict[str, str] | None) -> None:
    """Writes the arrays of a tree, by their names, to a safetensors file, whole or not at all."""
    # safetensors writes memory as it lies: a transposed or strided array would come back as other numbers.
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in named_arrays(tree).items()}
    atomic_write(path, lambda place: save_file(arrays, place, metadata=metadata))


def load_weights(path: str | os.PathLike[str], like: T, *, group: str = "ema") -> T:
    """The model `like` (arrays or shapes, from `eqx.filter_eval_shape`) with the weights of one group of a file.

    Args:
        path: a file of `save_weights`.
        like: a model of the same structure, shapes and dtypes.
        group: "ema" or "model".

    Raises:
        CheckpointError: if the file is missing or damaged, or holds another model; names the first differing array.
    """
    path = as_path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: expected a file, found none at {path}")
    with opened(path, "checkpoint") as file:
        names = [name for name in file.keys() if name.startswith(f"{group}/")]  # noqa: SIM118  (not a mapping)
        found = {name.removeprefix(f"{group}/"): file.get_tensor(name) for name in names}
    check_same(named_arrays(like), found, path)
    return with_arrays(like, {name: jnp.asarray(array) for name, array in found.items()})


@contextlib.contextmanager
def opened(path: pathlib.Path, what: str) -> Iterator[Any]:
    """A safetensors file to read; `CheckpointError` if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{what}: expected a safetensors file, found a damaged one at {path} ({error})"
        ) from error


def check_same(expected: dict[str, Any], found: dict[str, Any], path: pathlib.Path) -> None:
    """Raises `CheckpointError` at the first array that is missing, left over, or of another shape or dtype."""

    def refuse(message: str) -> NoReturn:
        raise CheckpointError(f"checkpoint {path}: {message}: another model?")

    for name, leaf in expected.items():
        if name not in found:
            refuse(f"expected an array {name} {leaf.shape}, found none")
        array = found[name]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            refuse(f"array {name}: expected {leaf.dtype} {leaf.shape}, found {array.dtype} {array.shape}")
    if extra := sorted(set(found) - set(expected)):
        refuse(f"expected {len(expected)} arrays, found also {extra[0]}")
