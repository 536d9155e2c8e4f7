"""Checkpoints for whoever only reads them: which there are, what they note, the arrays in one. Changes nothing."""

import contextlib
import os
import pathlib
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .manifest import DamagedError, FormatError, read_manifest, read_notes
from .weights import CheckpointError, check_same, named_arrays, with_arrays

T = TypeVar("T")


def checkpoint_notes(folder: pathlib.Path, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """The step and the notes of a checkpoint: of `step`, or of the newest that is whole. Changes nothing.

    Raises:
        CheckpointError: if there is none, that of `step` is damaged, or one is of another version's format.
    """
    found = steps_in(folder)
    if step is not None and step not in found:
        raise CheckpointError(f"checkpoint: expected one of the steps {found} in {folder}, found {step}")
    problems = []
    for each in reversed(found if step is None else [step]):
        try:
            return each, read_manifest(folder / str(each))["notes"]
        except FormatError as error:
            raise CheckpointError(f"checkpoint {error}; take the version that wrote it") from error
        except DamagedError as error:
            problems.append(str(error))
    raise CheckpointError(f"checkpoint: expected a whole one in {folder}, found {'; '.join(problems) or 'none'}")


def check_fits(folder: pathlib.Path, like: PyTree) -> None:
    """Whether the newest checkpoint, if there is one, holds a tree such as `like` (arrays, shapes), by its list.

    Raises:
        CheckpointError: names the first array that differs.
    """
    for step in reversed(steps_in(folder)):
        with contextlib.suppress(DamagedError, FormatError):  # whoever loads it says so
            return check_same(
                named_arrays(like), _described(folder / str(step), read_notes(folder / str(step))), folder
            )
    return None


def read_checkpoint(folder: str | os.PathLike[str], like: T, step: int | None = None) -> T:
    """The tree of a checkpoint, for whoever only reads: that of `step`, or the newest that is whole.

    Args:
        folder: of a `CheckpointStore`, which another process may be writing to.
        like: a tree of the same structure; its arrays, or shapes with shardings, say where each array goes.
        step: which one.

    Raises:
        CheckpointError: if there is none, it is damaged, or it is of another tree.
    """
    folder = pathlib.Path(folder)
    chosen, _ = checkpoint_notes(folder, step)
    place = folder.absolute() / str(chosen)
    with ocp.StandardCheckpointer() as checkpointer:
        return load_tree(checkpointer, place, like, read_manifest(place))


def read_arrays(folder: pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """Every array of a checkpoint by its name, such as `ema/torso/...`, whatever tree it is of.

    The rest is as for `read_checkpoint`.
    """
    chosen, _ = checkpoint_notes(folder, step)
    return read_checkpoint(folder, _described(folder.absolute() / str(chosen)), chosen)


def _described(place: pathlib.Path, notes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The shapes of a checkpoint's arrays by their names, as its notes list them."""
    notes = read_manifest(place) if notes is None else notes
    try:
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (dtype, shape) in notes["leaves"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {place}: expected a list of its arrays, found another ({error!r})"
        ) from error


def load_tree(checkpointer: Any, place: pathlib.Path, like: T, notes: dict[str, Any]) -> T:
    """The tree in one checkpoint's folder, laid out as `like` says, whose manifest holds `notes`.

    Raises:
        CheckpointError: if it is of another tree, or Orbax cannot read it.
    """
    expected = named_arrays(like)
    check_same(expected, _described(place, notes), place)
    target = {name: _target(leaf) for name, leaf in expected.items()}
    try:
        arrays = checkpointer.restore(place, target)
    except Exception as error:  # of many kinds, by the file that is wrong
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(f"checkpoint {place}: expected Orbax's files, found others ({cause})") from error
    return with_arrays(like, arrays)


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of which there is a folder with a manifest, ascending."""
    found = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(int(path.name) for path in found if (path / "MANIFEST.json").is_file())


def _target(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
