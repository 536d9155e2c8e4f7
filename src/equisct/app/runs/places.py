"""Where a run computes: processes and devices."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ...train import data_mesh
from ..settings.config import Config, Parallel
from .folder import locked

PATIENCE = 3600
"""Seconds that a process which is done waits for the others: the first one draws the samples alone."""


def join_processes(parallel: Parallel) -> None:
    """Connects this process with the others of its run; before anything else of JAX is used.

    Raises:
        ValueError: if the cluster cannot be found out and was not given.
    """
    if not parallel.distributed:
        return
    try:
        jax.distributed.initialize(
            parallel.coordinator, parallel.processes, parallel.process, shutdown_timeout_seconds=PATIENCE
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            "parallel.distributed: expected a TPU pod, SLURM, Open MPI or Kubernetes, or --parallel.coordinator, "
            f"--parallel.processes and --parallel.process; found {' '.join(str(error).split())[:300]}"
        ) from error


def check_platform() -> None:
    """Raises `ValueError` where JAX finds no device of the platforms that it is told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second, without a word, where a plugin is there and no device
        asked = getattr(jax.config, "jax_platforms", None) or "those it finds"
        reason = " ".join(str(error).split())[:300] or "no device"
        raise ValueError(
            f"JAX_PLATFORMS: expected platforms with a device, such as cpu, found {asked} ({reason})"
        ) from error


def leads() -> bool:
    """Whether this process speaks for all of its run."""
    return jax.process_index() == 0


def choose_mesh(config: Config) -> Mesh:
    """The devices of the run: `parallel.devices`, or all; on a CPU one per core, as many as divide the batch.

    Raises:
        ValueError: if there are not so many, or the batch cannot be divided among them.
    """
    parallel, batch = config.parallel, config.run.batch
    wanted = parallel.devices or math.gcd(batch // parallel.microbatches, cores())
    with contextlib.suppress(RuntimeError):  # JAX runs already in this process: its devices stay as they are
        if not parallel.distributed:
            jax.config.update("jax_num_cpu_devices", wanted)
    check_platform()
    alone_on_cpu = jax.default_backend() == "cpu" and jax.process_count() == 1
    mesh = data_mesh(wanted if alone_on_cpu else parallel.devices, fsdp=parallel.fsdp)
    if batch % (mesh.size * parallel.microbatches):
        share = f"{mesh.size} devices" + (f" x {parallel.microbatches} microbatches" * (parallel.microbatches > 1))
        raise ValueError(f"run.batch: expected a multiple of the {share}, found {batch}")
    return mesh


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def locked_together(folder: pathlib.Path) -> Iterator[None]:
    """Holds the run's folder for all processes of the run; the first one holds it.

    Raises:
        FolderInUseError: if another run holds it.
    """
    with locked(folder) if leads() else contextlib.nullcontext():
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("the run's folder is held")
        yield
