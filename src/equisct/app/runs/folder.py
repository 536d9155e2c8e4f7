"""The folder of a run: which one a command means, whether its run may go on, who holds it, how it stands. No JAX."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shlex
import time
from collections.abc import Iterator
from typing import Any

from filelock import FileLock, Timeout

from ..._base.files import atomic_write, partial_name
from .. import methods as methods  # a configuration names one by its class: they must be known
from ..settings.codec import from_json, to_json, whole_paths
from ..settings.config import Config
from ..tracking import redact
from .exits import writing

CONFIG, STATUS, LOCK = "config.json", "STATUS.json", "LOCK"

_BEFORE = (LOCK, partial_name(pathlib.Path(CONFIG)).name)
"""What a run that was killed before it began may have left."""

FREE = (
    "run.",
    "parallel.",
    "log.",
    "sample.",
    "eval.every",
    "eval.of",
    "eval.weights",
    "eval.ref",
    "method.teacher",
    "data.path",
    "data.index",
    "data.workers",
    "preset",
)
"""Settings that a run which goes on may change: they do not decide what is learned (rounding may differ).

A teacher and data may be moved; that they are still the same is seen by the hash of its weights and of their samples.
"""

FIXED = ("run.seed", "run.batch", "parallel.precision")
"""Settings that begin as one in `FREE` does, and decide all the same."""


class FolderInUseError(RuntimeError):
    """Another process is training in the folder."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One setting of a run that goes on, before and after."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.after}"


def choose_folder(config: Config) -> tuple[pathlib.Path, Config | None]:
    """The run's folder, and the configuration of the run that is there already, if the command goes on with one.

    That is `run.dir`; else the last of `runs/PRESET`, `runs/PRESET-2`... if its run is unfinished and the same but for
    settings that may change; else the first of these names that is free.

    Raises:
        ValueError: if `run.dir` holds other things, or `run.resume` asks for what is not so.
    """
    run = config.run
    unfit = {"[", "\\"} - {os.sep}
    if unfit & set(str((run.dir or pathlib.Path()).absolute())):  # Orbax would write there what it cannot read
        found = (run.dir or pathlib.Path()).absolute()
        raise ValueError(f"run.dir: expected a path without {' or '.join(sorted(unfit))}, found {found}")
    if run.dir is not None:
        return run.dir, _stored_in(run.dir, run.resume)
    names = itertools.chain([config.preset], (f"{config.preset}-{k}" for k in itertools.count(2)))
    paths = [pathlib.Path("runs") / next(names)]
    while paths[-1].exists():
        paths.append(pathlib.Path("runs") / next(names))
    *taken, free = paths
    if taken and run.resume != "never" and (taken[-1] / CONFIG).is_file():
        stored = read_config(taken[-1])
        same = not refused_changes(stored, config)
        if run.resume == "must" or (same and read_status(taken[-1]).get("status") != "finished"):
            return taken[-1], stored
    if run.resume == "must":
        raise ValueError(f"run.resume: expected a run in runs/{config.preset}, found none")
    return free, None


def _stored_in(folder: pathlib.Path, resume: str) -> Config | None:
    try:
        folder.lstat()
    except FileNotFoundError:
        pass  # it is made later
    except (OSError, ValueError) as error:
        raise ValueError(f"run.dir: expected the path of a folder, found one that cannot be ({error})") from error
    there = (folder / CONFIG).is_file()
    if there and resume == "never":
        raise ValueError(f"run.dir: expected a new or empty folder with run.resume never, found a run in {folder}")
    if there:
        return read_config(folder)
    if folder.exists() and (not folder.is_dir() or any(path.name not in _BEFORE for path in folder.iterdir())):
        raise ValueError(f"run.dir: expected a new or empty folder, or one of equisct-train, found {folder} in use")
    if resume == "must":
        raise ValueError(f"run.resume: expected a run in {folder}, found none")
    return None


def read_config(folder: pathlib.Path) -> Config:
    """The configuration of a run.

    Raises:
        ValueError: if there is none, or it is not one of this version.
    """
    return read_config_file(folder / CONFIG)


def read_config_file(path: pathlib.Path) -> Config:
    """The configuration in a JSON file.

    Raises:
        ValueError: if there is none, or it is not one of this version; names the field.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"config: expected a file, found none at {path} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # no JSON, no text, or a number too long for Python
        raise ValueError(f"config: expected JSON in {path}, found {error}") from error
    return whole_paths(from_json(found))


def changes(before: Config, after: Config) -> list[Change]:
    """The settings that differ, by their flags."""
    old, new = flat_settings(to_json(before)), flat_settings(to_json(after))
    free = ("run.dir", "run.resume", "run.allow_change", "run.dry_run")
    names = [name for name in old | new if name not in free and old.get(name) != new.get(name)]
    return [Change(name, old.get(name), new.get(name)) for name in names]


def refused_changes(before: Config, after: Config) -> list[Change]:
    """The changes that a run which goes on may not make, unless `run.allow_change` names them."""
    allowed = {name.replace("-", "_") for name in after.run.allow_change}

    def fixed(change: Change) -> bool:
        if change.name == "run.steps":  # the curriculum or the learning rate is laid out over them
            return after.method.is_laid_out or after.optim.decay
        return change.name.startswith(FIXED) or not change.name.startswith(FREE)

    return [change for change in changes(before, after) if fixed(change) and change.name not in allowed]


def flat_settings(node: dict[str, Any], name: str = "") -> dict[str, Any]:
    """Settings as JSON, by their full names such as `run.steps`."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flat_settings(value, f"{name}{key}.") if isinstance(value, dict) else {f"{name}{key}": value}
    return flat


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        FolderInUseError: if another process holds it.
        DataError: if it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0.5)
    except Timeout as error:
        owner = read_status(folder)
        raise FolderInUseError(
            f"run.dir: expected a folder that no other process trains in, found {folder} held by process "
            f"{owner.get('process', 'unknown')}, started {owner.get('started', 'at an unknown time')}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_not_held(folder: pathlib.Path) -> None:
    """Raises `FolderInUseError` if another process trains in the folder now: sooner than `locked` would be asked."""
    if (folder / LOCK).is_file():
        with locked(folder):
            pass


def write_config(config: Config, folder: pathlib.Path) -> None:
    """Writes the resolved configuration and makes the run's folders."""
    write_json(folder / CONFIG, to_json(config))  # the first of all: it says that the folder is a run's
    (folder / "samples").mkdir(exist_ok=True)


def settings_hash(folder: pathlib.Path) -> str:
    """The first twelve digits of the SHA-256 of `config.json`: tells of a picture which settings it is from."""
    return hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest()[:12]


def note_command(folder: pathlib.Path, command: list[str]) -> None:
    """Adds the command to `command.txt`, without secrets."""
    with (folder / "command.txt").open("a") as file:
        file.write(shlex.join(redact(command)) + "\n")


def write_status(folder: pathlib.Path, status: str, *, step: int, code: int | None = None, command: str = "") -> None:
    """Says how the run stands: running, finished, preempted or failed; and how to go on with it."""
    started = read_status(folder).get("started") if status != "running" else None
    content = {
        "status": status,
        "step": step,
        "exit_code": code,
        "resume": redact(command),
        "process": os.getpid(),
        "started": started or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_json(folder / STATUS, content)


def read_status(folder: pathlib.Path) -> dict[str, Any]:
    """What `write_status` wrote; empty where nothing is that can be read."""
    try:
        found = json.loads((folder / STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    atomic_write(path, json.dumps(content, indent=2) + "\n")
