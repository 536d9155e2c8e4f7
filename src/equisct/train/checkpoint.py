"""Checkpoints of a run: the whole state by Orbax, in the background, each with a manifest that is checked on load.

One folder per step, `5000/`. A step counts once its manifest stands (see `manifest`). A damaged one is renamed to
`5000.damaged`, and the one before it is loaded. Old ones go only after a newer one counts. Arrays are stored by name
and laid out anew on load, so a run may go on with any number of devices.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from .._base.check import check_at_least
from .._base.files import as_path, partial_name
from .manifest import NAME, write_manifest
from .reading import checked_checkpoint, load_tree, newest_whole, steps_in
from .weights import CheckpointError, named_arrays

T = TypeVar("T")


class CheckpointStore:
    """The checkpoints in one folder; one process (or one job of several) writes at a time.

    Args:
        folder: made if it does not exist; nothing else should be in it.
        keep: how many of the newest to keep, >= 2.
        keep_every: keep every step that is a multiple of this too; 0 keeps no others.
        warn: called with a sentence when a damaged checkpoint is left aside.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 2,
        keep_every: int = 0,
        warn: Callable[[str], None] = warnings.warn,
    ):
        check_at_least("keep", keep, 2)
        check_at_least("keep_every", keep_every, 0)
        folder = as_path(folder)
        unfit = {"[", "\\"} - {os.sep}  # Orbax takes the path for a pattern, and writes what it cannot read
        if unfit & set(str(folder.absolute())):
            raise ValueError(f"folder: expected a path without {' or '.join(sorted(unfit))}, found {folder.absolute()}")
        self._folder, self._keep, self._keep_every, self._warn = folder.absolute(), keep, keep_every, warn
        self._checkpointer = ocp.StandardCheckpointer()
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: concurrent.futures.Future[None] | None = None
        if _is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def steps(self) -> list[int]:
        """The steps of which there is a folder with a manifest, ascending; whether they are whole shows on load."""
        return steps_in(self._folder)

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Begins to store a tree's arrays and notes (JSON); returns once the arrays may change again.

        Raises:
            CheckpointError: if the save before this one failed.
            ValueError: if there is one of a later step, which would be loaded instead; or the notes are no JSON.
        """
        self.wait()
        if step < max(self.steps(), default=0):
            raise ValueError(f"step: expected one after those in {self._folder}, {self.steps()}, found {step}")
        try:
            notes = json.loads(json.dumps(notes))  # as they are now: they are written later
        except (TypeError, ValueError) as error:
            raise ValueError(f"notes: expected what JSON can hold, found {error}") from None
        place, arrays = self._folder / str(step), _own_copy(named_arrays(tree))
        leaves = {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in arrays.items()}
        try:
            if _is_first() and place.exists():
                _remove(place)
            self._checkpointer.save(place, arrays)
        except Exception as error:
            raise self._failed(place, arrays, error) from error
        self._saving = self._worker.submit(self._finish, place, arrays, {"leaves": leaves, "notes": notes})

    def _finish(self, place: pathlib.Path, arrays: dict[str, Any], notes: dict[str, Any]) -> None:
        try:
            self._checkpointer.wait_until_finished()
            if _is_first():
                mark = place / "commit_success.txt"  # Orbax's, of which only its being there counts
                if mark.is_file():
                    mark.write_text("whole\n")  # instead of the absolute path
                write_manifest(place, notes)
        except Exception as error:
            raise self._failed(place, arrays, error) from error
        with contextlib.suppress(OSError):  # the next save tries again
            if _is_first():
                self._prune()

    def _failed(self, place: pathlib.Path, arrays: dict[str, Any], error: Exception) -> CheckpointError:
        with contextlib.suppress(OSError):
            if _is_first():
                if not (place / NAME).is_file():
                    _remove(place)
                self._sweep()
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in arrays.values())
        free = shutil.disk_usage(self._folder).free
        cause = " ".join(str(error).split())[:400]
        return CheckpointError(
            f"checkpoint {place}: expected to write {needed:,} bytes or more, found {free:,} free "
            f"({type(error).__name__}: {cause}); earlier checkpoints are whole"
        )

    def wait(self) -> None:
        """Waits for the save that is under way.

        Raises:
            CheckpointError: if it failed.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore(self, like: T) -> tuple[int, T, dict[str, Any]] | None:
        """The newest whole checkpoint as `(step, tree, notes)`; None where there is none.

        Args:
            like: a tree of the same structure; its arrays, or shapes with shardings, say where each array goes.

        Raises:
            CheckpointError: if a whole checkpoint is of another tree (names the first array that differs), or of
                another version's format; such ones are never put aside.
        """
        aside = lambda place, error: self._set_aside(place, f"is damaged and left aside: {error}")
        found = newest_whole(self._folder, self.steps(), aside) if _is_first() else None
        if jax.process_count() > 1:
            step = int(multihost_utils.broadcast_one_to_all(np.int64(found.step if found else -1)))
            found = None if step < 0 else checked_checkpoint(self._folder / str(step))
        return None if found is None else (found.step, load_tree(found, like), found.notes)

    def _set_aside(self, place: pathlib.Path, found: str) -> None:
        aside = place.with_name(f"{place.name}.damaged")
        _remove(aside)
        place.rename(aside)
        self._warn(f"checkpoint {place.name} {found}")

    def _sweep(self) -> None:
        """Removes what a killed process left: unfinished saves and deletions."""
        for path in self._folder.iterdir():
            if ".orbax-checkpoint-tmp" in path.name or path.name.endswith(".deleting"):
                _remove(path)
            elif path.name.isdecimal() and not (path / NAME).is_file():
                killed = partial_name(path / NAME).is_file()  # while it was written
                if killed or (path.is_dir() and not any(path.iterdir())):
                    _remove(path)
                else:
                    found = f"has no {NAME}, so it was never finished or is damaged: left aside"
                    self._set_aside(path, found)

    def _prune(self) -> None:
        """Deletes the steps that need not be kept; each is renamed first, so that no half of one is ever seen."""
        steps = self.steps()
        for step in steps[: -self._keep]:
            if not (self._keep_every and step % self._keep_every == 0):
                place = self._folder / str(step)
                going = place.with_name(f"{step}.deleting")
                place.rename(going)
                _remove(going)

    def close(self) -> None:
        """Waits for the save that is under way and ends the background work.

        Raises:
            CheckpointError: if that save failed.
        """
        try:
            self.wait()
        finally:
            self._worker.shutdown()
            self._checkpointer.close()


def _is_first() -> bool:
    return jax.process_index() == 0


def _own_copy(arrays: dict[str, Any]) -> dict[str, Any]:
    """Copies where the backend might hand out the very memory that the next update overwrites: on a CPU."""
    if jax.default_backend() != "cpu":
        return arrays
    is_spread = lambda leaf: isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    return {name: jnp.copy(leaf) if is_spread(leaf) else np.array(leaf) for name, leaf in arrays.items()}


def _remove(path: pathlib.Path) -> None:
    if path.exists():
        shutil.rmtree(path)
