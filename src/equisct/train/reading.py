"""Checkpoints for whoever only reads them: which there are, what they note, the arrays in one. Changes nothing."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .._base.files import as_path
from .manifest import NAME, DamagedError, FormatError, read_manifest, read_notes
from .weights import CheckpointError, check_same, named_arrays, with_arrays

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What the manifest of a checkpoint says: its step, the shapes of its arrays by their names, and the notes."""

    place: pathlib.Path
    step: int
    shapes: dict[str, jax.ShapeDtypeStruct]
    notes: dict[str, Any]


def find_checkpoint(folder: pathlib.Path, step: int | None = None) -> Checkpoint:
    """The checkpoint of `step`, or the newest that is whole; each file is hashed once.

    Raises:
        CheckpointError: if there is none, that of `step` is damaged, or one is of another version's format.
    """
    found = steps_in(folder)
    if step is not None and step not in found:
        raise CheckpointError(f"checkpoint: expected one of the steps {found} in {folder}, found {step}")
    problems, place = [], folder.absolute()
    steps = found if step is None else [step]
    chosen = newest_whole(place, steps, lambda _, error: problems.append(str(error)))
    if chosen is None:
        raise CheckpointError(f"checkpoint: expected a whole one in {folder}, found {'; '.join(problems) or 'none'}")
    return chosen


def newest_whole(
    folder: pathlib.Path, steps: list[int], damaged: Callable[[pathlib.Path, DamagedError], object]
) -> Checkpoint | None:
    """That of the last of `steps` whose files are all as written, if any; `damaged` is told of those after it.

    Raises:
        CheckpointError: if one is of another version's format.
    """
    for place in (folder / str(step) for step in reversed(steps)):
        try:
            return _described(place, read_manifest(place))
        except FormatError as error:
            raise CheckpointError(f"checkpoint {error}; take the version that wrote it") from error
        except DamagedError as error:
            damaged(place, error)
    return None


def checked_checkpoint(place: pathlib.Path) -> Checkpoint:
    """That in the folder `place`, whose files have been compared with their hashes already."""
    return _described(place, read_notes(place))


def _described(place: pathlib.Path, content: dict[str, Any]) -> Checkpoint:
    try:
        shapes = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (dtype, shape) in content["leaves"].items()}
        return Checkpoint(place, int(place.name), shapes, content["notes"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {place}: expected a list of its arrays, found another ({error!r})"
        ) from error


def newest_described(folder: pathlib.Path) -> Checkpoint | None:
    """What the newest checkpoint that can be read says of itself, at once: its arrays are not looked at."""
    for step in reversed(steps_in(folder)):
        with contextlib.suppress(DamagedError, FormatError):  # whoever loads it says so
            return checked_checkpoint(folder / str(step))
    return None


def check_fits(folder: pathlib.Path, like: PyTree) -> None:
    """Whether the newest checkpoint, if there is one, holds a tree such as `like` (arrays, shapes), by its list.

    Raises:
        CheckpointError: names the first array that differs.
    """
    found = newest_described(folder)
    if found is not None:
        check_same(named_arrays(like), found.shapes, folder)


def read_checkpoint(folder: str | os.PathLike[str], like: T, step: int | None = None) -> T:
    """The tree of a checkpoint, for whoever only reads: that of `step`, or the newest that is whole.

    Args:
        folder: of a `CheckpointStore`, which another process may be writing to.
        like: a tree of the same structure; its arrays, or shapes with shardings, say where each array goes.
        step: which one.

    Raises:
        CheckpointError: if there is none, it is damaged, or it is of another tree.
    """
    return load_tree(find_checkpoint(as_path(folder), step), like)


def load_tree(checkpoint: Checkpoint, like: T, *, partial: bool = False) -> T:
    """The tree in a checkpoint that has been checked, laid out as `like` says.

    Args:
        checkpoint: where it lies and what is in it.
        like: a tree of arrays or shapes.
        partial: of the checkpoint's first names (`model`, `ema`) only those of `like` are compared and read.

    Raises:
        CheckpointError: if it is of another tree, or Orbax cannot read it.
    """
    expected = named_arrays(like)
    groups = {name.partition("/")[0] for name in expected}
    shapes = {n: leaf for n, leaf in checkpoint.shapes.items() if not partial or n.partition("/")[0] in groups}
    check_same(expected, shapes, checkpoint.place)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    where = lambda leaf: None if isinstance(leaf, np.ndarray) else leaf.sharding
    target = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where(leaf) or one)
        for name, leaf in expected.items()
    }
    layout = ocp.checkpoint_utils.construct_restore_args(target)
    try:
        with ocp.PyTreeCheckpointer() as reader:
            arrays = reader.restore(
                checkpoint.place, ocp.args.PyTreeRestore(target, restore_args=layout, partial_restore=partial)
            )
    except Exception as error:  # of many kinds, by the file that is wrong
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"checkpoint {checkpoint.place}: expected Orbax's files, found others ({cause})"
        ) from error
    return with_arrays(like, arrays)


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of which there is a folder with a manifest, ascending."""
    found = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(int(path.name) for path in found if (path / NAME).is_file())
