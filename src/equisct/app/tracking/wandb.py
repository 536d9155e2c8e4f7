"""Weights & Biases, optional and offline unless asked: rows and pictures alone, nothing about the machine."""

import importlib
import importlib.util
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._base.files import atomic_write
from .protocol import Values, flat_numbers
from .redaction import redact

_QUIET: dict[str, Any] = {
    "x_disable_meta": True,  # command line, host, user, hardware
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "console": "off",  # what is printed may hold paths
    "silent": True,
    "symlink": False,
    "host": "",
    "username": "",
    "email": "",
    "program": "",
}


class WandB:
    """A tracker that keeps a run of Weights & Biases below `folder/wandb`; `wandb sync` uploads it, if ever.

    The run's id is in `folder/wandb/id.txt`, so that a run that goes on is the same run there. Steps already known to
    the service keep their rows, which are equal: the metrics are a function of the step.

    Args:
        project: the project's name there.
        mode: `"offline"`: files only, no connection; `"online"`: uploaded at once, with the login that `wandb` finds.

    Raises:
        ValueError: wandb is not installed, or `mode` is another word.
    """

    def __init__(self, project: str, mode: str = "offline") -> None:
        if mode not in ("offline", "online"):
            raise ValueError(f"mode: expected 'offline' or 'online', found {mode!r}")
        if importlib.util.find_spec("wandb") is None:
            raise ValueError("WandB: expected wandb to be installed, found none (pip install wandb)")
        self._project, self._mode = project, mode
        self._run: Any = None

    def start(self, folder: pathlib.Path, config: Mapping[str, Any], step: int) -> None:
        """Begins a run, or goes on with the one of this folder.

        Sets WANDB_ERROR_REPORTING (off) and WANDB_CACHE_DIR (in the folder) where the environment leaves them open.
        """
        own = folder / "wandb"
        own.mkdir(exist_ok=True)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_CACHE_DIR", str((own / "cache").absolute()))
        self._wandb = importlib.import_module("wandb")
        self._run = self._wandb.init(
            project=self._project,
            id=_run_id(own / "id.txt", fresh=step == 0),
            name=redact(folder.absolute().name),
            dir=str(folder.absolute()),
            mode=self._mode,
            resume="allow",
            config=dict(config),
            settings=self._wandb.Settings(**_QUIET),
        )

    def log(self, step: int, values: Values) -> None:
        """Logs the finite numbers; lists as `name/bin_i`."""
        self._started().log(flat_numbers(values), step=step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Logs one picture."""
        self._started().log({name: self._wandb.Image(picture)}, step=step)

    def flush(self) -> None:
        """Does nothing: wandb writes in a process of its own."""

    def close(self) -> None:
        """Finishes the run; harmless if there is none."""
        if self._run is not None:
            logs = pathlib.Path(self._run.dir).parent / "logs"
            self._run.finish()
            self._run = None
            for path in logs.glob("*.log"):  # they name the folder
                atomic_write(path, redact(path.read_text()))

    def _started(self) -> Any:
        if self._run is None:
            raise ValueError("WandB: expected start() to come first, found no run")
        return self._run


def _run_id(path: pathlib.Path, *, fresh: bool) -> str:
    """The id stored in a file; a new one if there is none or the run begins afresh."""
    if fresh or not path.exists():
        atomic_write(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()
